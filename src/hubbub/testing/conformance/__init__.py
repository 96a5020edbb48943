"""Contracts as tests, for whoever writes a broker or a presence store.

Subclass a suite in a test module, and override the one fixture that opens what is tested:

    class TestMyBroker(HistoryBrokerConformance):
        @pytest.fixture
        def open_broker(self) -> OpenHistoryBroker:
            return lambda: MyBroker("my://localhost")

    class TestMyPresenceStore(PresenceStoreConformance):
        @pytest.fixture
        def open_store(self) -> OpenStore:
            @asynccontextmanager
            async def open_one() -> AsyncIterator[PresenceStore]:
                store = MyPresenceStore("my://localhost")
                yield store
                await store.aclose()

            return open_one

What is opened in one test has to meet, and each test uses channels of its own, so that all can run on one server. A
broker is opened without being started: the suite starts and closes it. Tests of what happens between two brokers are
skipped where `is_shared` is `False`.

The tests are coroutine functions: use pytest-asyncio with `asyncio_mode = "auto"`, or mark the class.
"""

import pytest

# Before they are imported: a failed assert of theirs then shows its values, as in a test module.
pytest.register_assert_rewrite(*(f"{__name__}.{module}" for module in ("broker", "history", "presence")))

from .broker import BrokerConformance  # noqa: E402
from .history import HistoryBrokerConformance  # noqa: E402
from .kit import Delivery, OpenBroker, OpenHistoryBroker, OpenStore, RecordingSink, started  # noqa: E402
from .presence import PresenceStoreConformance  # noqa: E402

__all__ = (
    "BrokerConformance",
    "Delivery",
    "HistoryBrokerConformance",
    "OpenBroker",
    "OpenHistoryBroker",
    "OpenStore",
    "PresenceStoreConformance",
    "RecordingSink",
    "started",
)
