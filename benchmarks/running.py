"""One run: a server on the first core, the load generator on the last."""

import os
import resource
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import IO

from .contestants import Contestant, Endpoint
from .figures import fault_in, parse
from .installation import NODE_MODULES, ROOT, load_generator
from .workloads import Workload

START_DEADLINE_S = 20.0
END_DEADLINE_S = 10.0
SETTLE_S = 0.5
"""From the moment when a server listens, for what it does at its start."""


class Failed(Exception):
    """A run has no figures; the message says why."""


def cores() -> tuple[int, int]:
    """Return the server's core and the load generator's."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[-1]


def raise_open_files() -> None:
    """Let this process and its children open as many files as the system permits."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def measure(workload: Workload, contestant: Contestant, endpoint: Endpoint, seconds: float) -> dict[str, float]:
    """Start a server, put it under load, end it, and return the figures.

    Args:
        seconds: How long the load is measured, after a second to warm up.

    Raises:
        Failed: The server has not started, or has lost connections.
    """
    port = _free_port()
    with _serving(contestant.command_on(port), port) as pid:
        server = ("--port", str(port), "--path", endpoint.path, "--pid", str(pid))
        return _load(*server, "--seconds", str(seconds), *workload.arguments, *endpoint.arguments)


def _load(*arguments: str) -> dict[str, float]:
    _, core = cores()
    run = subprocess.run(
        [load_generator(), *arguments],
        capture_output=True,
        text=True,
        preexec_fn=partial(os.sched_setaffinity, 0, {core}),
        check=False,
    )
    reason = _last_line(run.stderr)
    if run.returncode:
        raise Failed(reason or f"the load generator ended with {run.returncode}")
    figures = parse(run.stdout)
    if fault := fault_in(figures):
        raise Failed(f"{fault}; {reason}" if reason else fault)
    return figures


@contextmanager
def _serving(command: list[str], port: int) -> Iterator[int]:
    core, _ = cores()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | {"NODE_PATH": str(NODE_MODULES)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=partial(os.sched_setaffinity, 0, {core}),
        )
        try:
            _wait_until_it_listens(process, port, log)
            yield process.pid
        finally:
            _end(process)


def _wait_until_it_listens(process: subprocess.Popen[bytes], port: int, log: IO[bytes]) -> None:
    deadline = time.monotonic() + START_DEADLINE_S
    while not _listens(port):
        if process.poll() is not None:
            log.seek(0)
            raise Failed(f"it does not start: {_last_line(log.read().decode(errors='replace'))}")
        if time.monotonic() > deadline:
            raise Failed(f"it does not listen after {START_DEADLINE_S:g} seconds")
        time.sleep(0.05)
    time.sleep(SETTLE_S)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(END_DEADLINE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1][:200]
