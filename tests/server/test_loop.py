"""The event loop of a server process."""

import gc
import sys
from collections.abc import Iterator

import pytest
import uvloop

from hubbub.server.loop import GC_THRESHOLDS, new_event_loop


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    """Leave the garbage collector of this process as it was."""
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()


def test_the_loop_is_that_of_uvloop() -> None:
    loop = new_event_loop()
    loop.close()
    assert isinstance(loop, uvloop.Loop)


def test_without_uvloop_it_is_that_of_asyncio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    loop = new_event_loop()
    loop.close()
    assert type(loop).__module__.startswith("asyncio.")


def test_the_garbage_collector_leaves_what_is_there_and_looks_less_often(collector: None) -> None:
    frozen = gc.get_freeze_count()
    new_event_loop().close()
    assert gc.get_threshold() == GC_THRESHOLDS
    assert gc.get_freeze_count() > frozen
