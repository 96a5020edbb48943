"""The servers: how each is started, what it has to answer, and whether it is installed."""

import platform
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from .installation import BUILD, NODE_MODULES, PEERS, VENV, NodePackage, PythonPackage


class Kind(Enum):
    """What a workload asks a server for."""

    FANOUT = "fanout"
    ECHO = "echo"
    IDLE = "idle"
    HANDSHAKE = "handshake"
    DEFLATE = "deflate"


@dataclass(frozen=True)
class Endpoint:
    """What clients connect to.

    Args:
        path: The target of the handshake.
        how: What distinguishes it from the server's other endpoints of the same kind.
        arguments: What the load generator has to know about it.
    """

    path: str
    how: str = ""
    arguments: tuple[str, ...] = ()


Endpoints = Mapping[Kind, tuple[Endpoint, ...]]


@dataclass(frozen=True)
class Contestant:
    """One server.

    Args:
        name: What the command line calls it.
        label: What the tables call it.
        command: How it is started, with `{port}` for the port.
        endpoints: What it answers.
        package: What has to be installed for it, besides what Hubbub itself needs.
    """

    name: str
    label: str
    command: tuple[str, ...]
    endpoints: Endpoints
    package: PythonPackage | NodePackage | None = None

    @property
    def is_installed(self) -> bool:
        """Whether it can be started."""
        return self.package is None or (self.package.version is not None and shutil.which(self.command[0]) is not None)

    def command_on(self, port: int) -> list[str]:
        """Return the command that serves on a port of 127.0.0.1."""
        return [part.format(port=port) for part in self.command]


WEBSOCKET: Endpoints = {
    Kind.FANOUT: (Endpoint("/ws"),),
    Kind.ECHO: (Endpoint("/echo"),),
    Kind.IDLE: (Endpoint("/ws"),),
    Kind.HANDSHAKE: (Endpoint("/ws"),),
}
CHANNELS: Endpoints = {kind: endpoints for kind, endpoints in WEBSOCKET.items() if kind is not Kind.IDLE}
"""Its in-memory layer goes through all connections at each new one: 15,000 would take minutes."""
SOCKETIO_PATH = "/socket.io/?EIO=4&transport=websocket"
SOCKETIO_ALL = Endpoint(SOCKETIO_PATH, arguments=("--socketio", "msg"))
SOCKETIO: Endpoints = {
    Kind.FANOUT: (SOCKETIO_ALL,),
    Kind.ECHO: (Endpoint(SOCKETIO_PATH, arguments=("--socketio", "echo")),),
    Kind.IDLE: (SOCKETIO_ALL,),
    Kind.HANDSHAKE: (SOCKETIO_ALL,),
}
DEFLATE: Endpoints = {Kind.DEFLATE: (Endpoint("/ws", "as it is"), Endpoint("/ws", "compressed", ("--deflate",)))}
HUBBUB: Endpoints = {
    Kind.FANOUT: (Endpoint("/ws"),),
    Kind.ECHO: (Endpoint("/echo", "in an endpoint"), Endpoint("/detached", "detached")),
    Kind.IDLE: (Endpoint("/idle", "in an endpoint"), Endpoint("/idle-detached", "detached")),
    Kind.HANDSHAKE: (
        Endpoint("/starlette", "Starlette route"),
        Endpoint("/ws-fastapi", "FastAPI route"),
        Endpoint("/idle", "Depends(hub)"),
    ),
    **DEFLATE,
}

PYTHON = str(VENV / "bin" / "python")
BUN_PACKAGE = NodePackage("@oven/bun-linux-" + {"x86_64": "x64"}.get(platform.machine(), platform.machine()))
BUN = (str(NODE_MODULES / BUN_PACKAGE.name / "bin" / "bun"), str(PEERS / "bun.js"), "{port}")
UVICORN = ("-m", "uvicorn", "--port", "{port}", "--log-level", "error")
HUBBUB_ON_UVICORN = (sys.executable, *UVICORN, "benchmarks.application:app")
HUBBUB_RUN = (sys.executable, "-m", "hubbub.cli", "run", "--port", "{port}", "--log-level", "error", "--deflate")
"""Deflate for the workload that asks for it; clients that do not offer it do not get it."""


def _on_uvicorn(name: str, label: str, module: str, package: str, endpoints: Endpoints) -> Contestant:
    command = (PYTHON, *UVICORN, "--app-dir", str(PEERS), f"{module}:app")
    return Contestant(name, label, command, endpoints, PythonPackage(package))


def _script(name: str, file: str) -> Contestant:
    return Contestant(name, name, (PYTHON, str(PEERS / file), "{port}"), WEBSOCKET, PythonPackage(name))


def _node(name: str, label: str, file: str, endpoints: Endpoints) -> Contestant:
    return Contestant(name, label, ("node", str(PEERS / file), "{port}"), endpoints, NodePackage(name))


CONTESTANTS = (
    Contestant("floor", "C loop", (str(BUILD / "floor"), "{port}"), WEBSOCKET),
    Contestant("bun", "Bun", BUN, WEBSOCKET, BUN_PACKAGE),
    Contestant("bun-deflate", "Bun", (*BUN, "deflate"), DEFLATE, BUN_PACKAGE),
    _script("picows", "picows_loop.py"),
    _node("ws", "Node ws", "node_ws.js", WEBSOCKET),
    _script("aiohttp", "aiohttp_loop.py"),
    _script("websockets", "websockets_broadcast.py"),
    _node("socket.io", "Socket.IO", "node_socketio.js", SOCKETIO),
    _on_uvicorn("tutorial", "FastAPI tutorial on uvicorn", "fastapi_tutorial", "fastapi", {**WEBSOCKET, **DEFLATE}),
    _on_uvicorn("channels", "Django Channels", "channels_app", "channels", CHANNELS),
    _on_uvicorn("python-socketio", "python-socketio", "socketio_app", "python-socketio", SOCKETIO),
    Contestant("hubbub-on-uvicorn", "Hubbub on uvicorn's own class", HUBBUB_ON_UVICORN, HUBBUB),
    Contestant("hubbub", "Hubbub", (*HUBBUB_RUN, "benchmarks.application:app"), HUBBUB),
)
BASES = {"bun": "Bun", "tutorial": "tutorial"}
"""What ratios are taken to, and what their columns call it."""
