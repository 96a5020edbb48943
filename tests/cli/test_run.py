"""`hubbub run`: what uvicorn is asked for, and real servers that start, answer and end."""

import os
import resource
import signal
import socket
import subprocess
import sys
import weakref
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from hubbub.cli.run import raise_open_files, serve
from hubbub.fastapi import hub as hub_module
from hubbub.server.loop import new_event_loop
from tests.integration.clients import Client, client
from tests.integration.deadline import DEADLINE_S
from tests.integration.servers import COMMANDS, Server
from tests.redis_server import redis_server

COMMAND = ("hubbub.cli", "run", "--port", "{port}", "{application}")

HUBS = "from hubbub import ConnectionManager, Hub\n"
FINE = "async def app(scope, receive, send): ...\n"
FAILS_TO_START = """
async def app(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "There is no database"})
"""


# What uvicorn is asked for


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, dict[str, Any]]]:
    """What uvicorn was asked to run. The modules of `tmp_path` are forgotten after the test, and before it all hubs."""
    calls: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(uvicorn, "run", lambda application, **settings: calls.append((application, settings)))
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "modules", {**sys.modules})
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(hub_module, "_hubs", weakref.WeakValueDictionary())
    (tmp_path / "hubbub_fine.py").write_text(FINE)
    return calls


def ask(tmp_path: Path, application: str = "hubbub_fine:app", **settings: Any) -> None:
    serve(application, **{"app_dir": str(tmp_path), "reload": False, "workers": 1, "log_level": "info", **settings})


def test_uvicorn_gets_our_classes(asked: list[tuple[str, dict[str, Any]]], tmp_path: Path) -> None:
    ask(tmp_path, port=1, root_path="/api")
    [(application, settings)] = asked
    assert application == "hubbub_fine:app"
    assert settings == {
        "http": "hubbub.server.http:HTTPProtocol",
        "ws": "hubbub.server:WebSocketProtocol",
        "loop": "hubbub.server.loop:new_event_loop",
        "reload": False,
        "workers": 1,
        "log_level": "info",
        "port": 1,
        "root_path": "/api",
    }
    config = uvicorn.Config("hubbub_fine:app", **{**settings, "log_level": None, "log_config": None})
    config.load()
    assert config.http_protocol_class.__module__ == "hubbub.server.http"
    assert config.ws_protocol_class is not None
    assert config.ws_protocol_class.__name__ == "WebSocketProtocol"
    assert config.get_loop_factory() is new_event_loop


def test_the_directory_of_the_application_comes_first(asked: list[tuple[str, dict[str, Any]]], tmp_path: Path) -> None:
    ask(tmp_path)
    assert sys.path[0] == str(tmp_path)


@pytest.mark.parametrize(
    "source",
    [
        "hub = Hub()",
        "hub = Hub('memory://')",
        "manager = ConnectionManager()",
        "hub = Hub('redis://localhost'); manager = ConnectionManager()",
    ],
)
def test_several_workers_are_refused_to_a_hub_that_is_alone_in_its_process(
    asked: list[tuple[str, dict[str, Any]]], tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str
) -> None:
    (tmp_path / "hubbub_alone.py").write_text(f"{HUBS}{source}\n{FINE}")
    with pytest.raises(SystemExit) as exited:
        ask(tmp_path, "hubbub_alone:app", workers=4)
    assert exited.value.code == 1
    assert capsys.readouterr().err == (
        "hubbub: --workers 4 takes a broker that all workers share, and this application has a hub in the memory of "
        'one process. Give it Hub("redis://…"), or run one worker.\n'
    )
    assert asked == []


@pytest.mark.parametrize(
    "source",
    [
        "",
        "hub = Hub('redis://localhost')",
        "hub = Hub('unix:///run/redis.sock')",
        "manager = ConnectionManager('rediss://localhost')",
        "Hub()",  # nobody has it
    ],
)
def test_several_workers_may_share_a_broker(
    asked: list[tuple[str, dict[str, Any]]], tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str
) -> None:
    (tmp_path / "hubbub_shared.py").write_text(f"{HUBS}{source}\n{FINE}")
    ask(tmp_path, "hubbub_shared:app", workers=4)
    assert asked[0][1]["workers"] == 4
    assert capsys.readouterr().err == ""


def test_an_application_that_is_made_has_its_hubs_only_then(
    asked: list[tuple[str, dict[str, Any]]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "hubbub_made.py").write_text(
        f"{HUBS}from fastapi import FastAPI\ndef make(): return FastAPI(lifespan=Hub().lifespan)"
    )
    with pytest.raises(SystemExit) as exited:
        ask(tmp_path, "hubbub_made:make", workers=2, factory=True)
    assert exited.value.code == 1
    assert capsys.readouterr().err.startswith("hubbub: --workers 2 takes a broker that all workers share")
    assert asked == []


def test_one_worker_leaves_the_making_to_uvicorn(asked: list[tuple[str, dict[str, Any]]], tmp_path: Path) -> None:
    (tmp_path / "hubbub_made.py").write_text("def make(): raise ZeroDivisionError")
    ask(tmp_path, "hubbub_made:make", factory=True)
    assert asked[0][1]["factory"] is True


@pytest.mark.parametrize("settings", [{}, {"reload": True, "workers": 4}])
def test_one_worker_may_have_any_hub(
    asked: list[tuple[str, dict[str, Any]]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    settings: dict[str, Any],
) -> None:
    (tmp_path / "hubbub_alone.py").write_text(f"{HUBS}hub = Hub()\n{FINE}")
    ask(tmp_path, "hubbub_alone:app", **settings)  # uvicorn reloads with one worker
    assert len(asked) == 1
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("source", "application", "complaint"),
    [
        (None, "broken:app", 'Could not import module "broken".'),
        ("", "broken:app", 'Attribute "app" not found in module "broken".'),
        ("", "broken", 'Import string "broken" must be in format "<module>:<attribute>".'),
        (
            "import os\n\nimport no_such_module",
            "broken:app",
            "cannot import broken:app: ModuleNotFoundError: No module named 'no_such_module' ({file}:3). "
            "--log-level debug shows the traceback.",
        ),
        (
            None,
            "broken.app:app",
            "cannot import broken.app:app: ModuleNotFoundError: No module named 'broken'. "
            "--log-level debug shows the traceback.",
        ),
        (
            "app = = 1",
            "broken:app",
            "cannot import broken:app: SyntaxError: invalid syntax ({file}:1). --log-level debug shows the traceback.",
        ),
        (
            "raise ValueError('one\\n  two')",
            "broken:app",
            "cannot import broken:app: ValueError: one two ({file}:1). --log-level debug shows the traceback.",
        ),
    ],
)
def test_an_application_that_cannot_be_imported(
    asked: list[tuple[str, dict[str, Any]]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    source: str | None,
    application: str,
    complaint: str,
) -> None:
    file = tmp_path / "broken.py"
    if source is not None:
        file.write_text(source)
    with pytest.raises(SystemExit) as exited:
        ask(tmp_path, application)
    assert exited.value.code == 1
    assert capsys.readouterr().err == f"hubbub: {complaint.format(file=file)}\n"
    assert asked == []


def test_debug_shows_the_traceback(
    asked: list[tuple[str, dict[str, Any]]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.py").write_text("1 / 0")
    with pytest.raises(SystemExit):
        ask(tmp_path, "broken:app", log_level="debug")
    first, *_, last = capsys.readouterr().err.splitlines()
    assert first.startswith("Traceback")
    assert last.startswith("hubbub: cannot import broken:app: ZeroDivisionError")


def test_a_reloader_takes_what_cannot_be_imported_yet(asked: list[tuple[str, dict[str, Any]]], tmp_path: Path) -> None:
    ask(tmp_path, "broken:app", reload=True)
    assert asked[0][1]["reload"] is True


def test_the_handler_of_sigterm_is_put_back(asked: list[tuple[str, dict[str, Any]]], tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    ask(tmp_path)
    assert signal.getsignal(signal.SIGTERM) is before


# Open files


@contextmanager
def limit_of_open_files(soft: int) -> Iterator[int]:
    """Lower the limit for what is started meanwhile; yields what it may be raised to."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, before[1]))
    try:
        yield before[1]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_open_files_are_raised_to_the_hard_limit() -> None:
    with limit_of_open_files(500) as hard:
        raise_open_files()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)


def test_a_system_may_refuse_to_raise_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("current limit exceeds maximum limit")

    monkeypatch.setattr(resource, "setrlimit", refuse)
    raise_open_files()


def test_a_system_may_have_no_such_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resource", None)
    raise_open_files()


# Real servers


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """Start `hubbub run` with these options; it is ended with the test."""
    servers: list[Server] = []

    def start(*options: str, application: str = "behaviour") -> Server:
        monkeypatch.setitem(COMMANDS, "hubbub", (*COMMAND, *options))
        server = Server("hubbub", application, tmp_path / "log")
        server.start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.kill()


@pytest.mark.parametrize("end", [Server.terminate, Server.interrupt], ids=["SIGTERM", "Ctrl-C"])
async def test_it_serves_and_ends_with_0(start: Any, end: Any) -> None:
    server = start()
    async with client(server.port, "/echo") as ada:
        assert await ada.ask("Hello") == "Hello"
    assert b" 431 " in first_line(server, b"x: " + b"y" * 20_000 + b"\r\n")
    end(server)
    assert server.wait() == 0
    assert server.exceptions == set()


async def test_several_workers(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with redis_server() as redis, limit_of_open_files(500) as hard:
        monkeypatch.setenv("HUBBUB_TEST_BROKER", redis.url)
        server = start("--workers", "2", application="workers")
        limits = [resource.prlimit(worker, resource.RLIMIT_NOFILE) for worker in children(server)]
        assert len(limits) >= 2
        assert set(limits) == {(hard, hard)}
        async with AsyncExitStack() as stack:
            clients: dict[str | bytes, list[Client]] = defaultdict(list)
            while len(clients) < 2:  # each handshake goes to one worker or to the other
                opened = await stack.enter_async_context(client(server.port, "/ws"))
                clients[await opened.receive()].append(opened)
            one, other = [of_worker[0] for of_worker in clients.values()]
            assert await one.ask("Hello") == "Hello"
            assert await other.receive() == "Hello"
        server.terminate()
        assert server.wait() == 0
    assert server.exceptions == set()


def first_line(server: Server, fields: bytes) -> bytes:
    """Ask with these header fields, and return the first line of the answer."""
    with socket.create_connection(("127.0.0.1", server.port), DEADLINE_S) as connection:
        connection.sendall(b"GET /alive HTTP/1.1\r\nhost: localhost\r\n" + fields + b"\r\n")
        return connection.recv(65_536).partition(b"\r\n")[0]


def children(server: Server) -> list[int]:
    assert server._process is not None
    pid = server._process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def run_to_the_end(source: str, tmp_path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "main.py").write_text(source)
    return subprocess.run(
        [sys.executable, "-m", "hubbub.cli", "run", "main:app", *options],
        cwd=tmp_path,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )


def test_an_application_that_cannot_be_imported_ends_with_1(tmp_path: Path) -> None:
    ran = run_to_the_end("1 / 0", tmp_path, "--workers", "2")
    assert ran.returncode == 1
    assert "hubbub: cannot import main:app: ZeroDivisionError: division by zero" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_an_application_that_does_not_start_ends_with_3(tmp_path: Path) -> None:
    ran = run_to_the_end(FAILS_TO_START, tmp_path, "--port", "0")
    assert ran.returncode == 3
    assert "There is no database" in ran.stderr


def test_an_address_that_is_taken_ends_with_3(start: Any, tmp_path: Path) -> None:
    server = start()
    assert run_to_the_end(FINE, tmp_path, "--port", str(server.port)).returncode == 3
