"""Imports go strictly downward: the table below against what the modules of the package import.

An import counts wherever it stands: in a function, under ``TYPE_CHECKING``, relative or absolute.
"""

import ast
import itertools
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = "hubbub"
SOURCE = Path(__file__).parent.parent / "src" / PACKAGE

VALUES = ("errors", "model", "clock", "config", "events")
CORE = (*VALUES, "wire", "state", "interfaces")
BELOW_THE_SURFACE = (*CORE, "brokers", "hub", "server", "protocols")
SURFACE = ("fastapi", "metrics", "console")
TOP = ("", *BELOW_THE_SURFACE, *SURFACE)

# (layer, module or package, what it may import from hubbub besides itself). "" is hubbub/__init__.py, the public names.
# What stands in layer 6 uses the server for its names only; no import can tell that.
TABLE: tuple[tuple[int, str, tuple[str, ...]], ...] = (
    *((0, value, VALUES) for value in VALUES),
    (1, "wire", VALUES),
    (1, "state", VALUES),
    (2, "interfaces", (*VALUES, "wire.prepared")),
    (3, "brokers", (*VALUES, "interfaces", "state.roster", "state.stream", "state.wheel")),
    (4, "hub", (*CORE, "brokers.memory")),
    (4, "server", (*VALUES, "wire", "interfaces", "state.bucket", "state.wheel")),
    (5, "protocols", (*CORE, "hub")),
    *((6, surface, BELOW_THE_SURFACE) for surface in SURFACE),
    (7, "cli", TOP),
    (7, "testing", TOP),
    (8, "", (*BELOW_THE_SURFACE, *SURFACE)),
)
LAYER_OF = {unit: layer for layer, unit, _ in TABLE}
MAY_IMPORT = {unit: allowed for _, unit, allowed in TABLE}

FAMILIES = ("brokers", "protocols")  # their members are strangers to each other
FIRST_LAYER_WITH_ASYNCIO = 3


def complaints(source: Path) -> list[str]:
    """Say everything that is wrong with the imports of the package at `source`."""
    modules = {module_name(path, source): path for path in sorted(source.rglob("*.py"))}
    strangers = sorted({top(module) for module in modules} - LAYER_OF.keys())
    known = {module: path for module, path in modules.items() if top(module) in LAYER_OF}
    imports = {module: sorted(set(imported_by(path, module, modules))) for module, path in known.items()}
    return [
        *(f"{stranger} is not in the table of layers" for stranger in strangers),
        *itertools.chain.from_iterable(judge(module, found) for module, found in imports.items()),
        *cycles(imports),
    ]


def judge(module: str, imported: list[str]) -> Iterator[str]:
    """Hold the imports of one module against the table."""
    for name in imported:
        if name.partition(".")[0] == "asyncio":
            if LAYER_OF[top(module)] < FIRST_LAYER_WITH_ASYNCIO:
                yield f"{module} imports asyncio, which begins in layer {FIRST_LAYER_WITH_ASYNCIO}"
        elif is_ours(name) and not may_import(module, within(name)):
            yield f"{module} must not import {name}"


def may_import(module: str, target: str) -> bool:
    """Whether the table lets `module` import `target`, a name without the package's own."""
    unit = top(module)
    if target.partition(".")[0] == unit:
        member, other = member_of_family(within(module)), member_of_family(target)
        return member is None or member == other
    return any(is_in(target, allowed) for allowed in MAY_IMPORT[unit])


def cycles(imports: dict[str, list[str]]) -> Iterator[str]:
    """Name the first circle of modules that import each other, if there is one."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        yield "circular import: " + " <- ".join(error.args[1])


def imported_by(path: Path, module: str, modules: dict[str, Path]) -> Iterator[str]:
    """Name the modules that a file imports, its own package's in full; `modules` tells them from their contents."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = absolute(node, package)
            submodules = (f"{base}.{alias.name}" for alias in node.names)
            yield from (name if name in modules else base for name in submodules)


def absolute(node: ast.ImportFrom, package: str) -> str:
    """Name what a ``from … import`` imports from, seen from a module of `package`."""
    if not node.level:
        return node.module or ""
    anchor = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join([*anchor, *([node.module] if node.module else [])])


def module_name(path: Path, source: Path) -> str:
    parts = path.relative_to(source.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def within(module: str) -> str:
    """Strip the package's own name: ``hubbub.wire.mask`` is ``wire.mask``, and ``hubbub`` itself is empty."""
    return module.partition(".")[2]


def top(module: str) -> str:
    return within(module).partition(".")[0]


def is_ours(module: str) -> bool:
    return is_in(module, PACKAGE)


def is_in(module: str, package: str) -> bool:
    return module == package or (bool(package) and module.startswith(f"{package}."))


def member_of_family(name: str) -> str | None:
    """Name the broker or client protocol that a module belongs to; None for all else, and for what unites them."""
    family, _, rest = name.partition(".")
    return rest.partition(".")[0] or None if family in FAMILIES else None


def test_imports_go_downward() -> None:
    assert complaints(SOURCE) == []


GOOD = {
    "__init__.py": "from hubbub.fastapi import Hub",
    "errors.py": "import asyncio_like, enum",
    "model.py": "from .errors import Error",
    "wire/__init__.py": "",
    "wire/prepared.py": "from .. import errors\nfrom hubbub.wire.frames import Frame",
    "wire/frames.py": "import hubbub.model as model",
    "state/__init__.py": "",
    "state/stream.py": "from ..model import Position",
    "interfaces.py": "from hubbub.wire import prepared\nfrom hubbub.wire.prepared import PreparedFrame",
    "brokers/__init__.py": "def from_url():\n    from hubbub.brokers import memory, redis",
    "brokers/memory.py": "import asyncio\nfrom hubbub.state.stream import Stream",
    "brokers/redis/__init__.py": "from .link import Link",
    "brokers/redis/link.py": "import asyncio.events",
    "hub/__init__.py": "from hubbub.brokers.memory import MemoryBroker",
    "fastapi/__init__.py": "import fastapi, starlette\nfrom hubbub.brokers import from_url\nfrom hubbub.hub import Hub",
    "testing/__init__.py": "from hubbub import Hub",
}

BAD = {
    "upward": ("wire/frames.py", "import hubbub.hub", "hubbub.wire.frames must not import hubbub.hub"),
    "sideways": (
        "wire/frames.py",
        "from ..state import stream",
        "hubbub.wire.frames must not import hubbub.state.stream",
    ),
    "in a function": (
        "state/stream.py",
        "def read():\n    from hubbub.interfaces import Clock",
        "hubbub.state.stream must not import hubbub.interfaces",
    ),
    "for types only": (
        "interfaces.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from hubbub.hub import Hub",
        "hubbub.interfaces must not import hubbub.hub",
    ),
    "more of a package than allowed": (
        "interfaces.py",
        "from hubbub.wire import Frame",
        "hubbub.interfaces must not import hubbub.wire",
    ),
    "a namesake": (
        "hub/__init__.py",
        "import hubbub.brokers.memory2",
        "hubbub.hub must not import hubbub.brokers.memory2",
    ),
    "another broker": (
        "brokers/redis/link.py",
        "from ..memory import MemoryBroker",
        "hubbub.brokers.redis.link must not import hubbub.brokers.memory",
    ),
    "the public names from below": ("model.py", "from hubbub import Hub", "hubbub.model must not import hubbub"),
    "the test kit": ("__init__.py", "from . import testing", "hubbub must not import hubbub.testing"),
    "asyncio too low": (
        "wire/frames.py",
        "import asyncio",
        "hubbub.wire.frames imports asyncio, which begins in layer 3",
    ),
    "part of asyncio too low": (
        "interfaces.py",
        "from asyncio.events import TimerHandle",
        "hubbub.interfaces imports asyncio, which begins in layer 3",
    ),
    "a module without a layer": ("utils.py", "", "utils is not in the table of layers"),
    "a circle": (
        "errors.py",
        "def late():\n    from hubbub.model import Position",
        "circular import: hubbub.errors <- hubbub.model <- hubbub.errors",
    ),
}


def write_package(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / PACKAGE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root / PACKAGE


def test_what_is_allowed_passes(tmp_path: Path) -> None:
    assert complaints(write_package(tmp_path, GOOD)) == []


@pytest.mark.parametrize(("file", "text", "complaint"), BAD.values(), ids=BAD.keys())
def test_a_violation_is_found(tmp_path: Path, file: str, text: str, complaint: str) -> None:
    assert complaint in complaints(write_package(tmp_path, {**GOOD, file: text}))
