"""What the package exports is a list written by hand: nothing missing from it, nothing undocumented, nothing extra."""

import __future__

import importlib
from dataclasses import dataclass
from types import FunctionType, ModuleType

import pytest


def complaints(module: ModuleType) -> list[str]:
    """Say everything that is wrong with what `module` exports."""
    exported = getattr(module, "__all__", None)
    if not isinstance(exported, tuple):
        return ["__all__ is not a tuple"]
    there = public_names(module)
    return [
        *(f"{name} is in __all__ and does not exist" for name in exported if not hasattr(module, name)),
        *(f"{name} is in __all__ twice" for name in sorted(set(exported)) if exported.count(name) > 1),
        *(f"{name} is public and missing from __all__" for name in there if name not in exported),
        *(f"{name} has no docstring" for name in exported if name in there and not is_documented(there[name])),
    ]


def public_names(module: ModuleType) -> dict[str, object]:
    """Map the names without an underscore in front to what they are; submodules do not count."""
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and not isinstance(value, (ModuleType, __future__._Feature))
    }


def is_documented(value: object) -> bool:
    """Whether someone wrote a docstring, where there can be one: the signature that dataclasses put there is none."""
    if not isinstance(value, (type, FunctionType)):
        return True
    documentation = value.__doc__ or ""
    return documentation != "" and not documentation.startswith(f"{value.__name__}(")


@pytest.mark.parametrize("name", ["hubbub", "hubbub.testing"])
def test_exports(name: str) -> None:
    assert complaints(importlib.import_module(name)) == []


class Documented:
    """A class with a docstring."""


class Inherits(Documented):
    pass


@dataclass
class OnlyFields:
    field: int


def undocumented() -> None: ...


FAKES = {
    "good": ({"__all__": ("Documented", "LIMIT"), "Documented": Documented, "LIMIT": 1, "pytest": pytest}, []),
    "no list": ({"Documented": Documented}, ["__all__ is not a tuple"]),
    "a list": ({"__all__": []}, ["__all__ is not a tuple"]),
    "missing": ({"__all__": ("Gone",)}, ["Gone is in __all__ and does not exist"]),
    "twice": ({"__all__": ("LIMIT", "LIMIT"), "LIMIT": 1}, ["LIMIT is in __all__ twice"]),
    "forgotten": ({"__all__": (), "Documented": Documented}, ["Documented is public and missing from __all__"]),
    "inherited docstring": ({"__all__": ("Inherits",), "Inherits": Inherits}, ["Inherits has no docstring"]),
    "generated docstring": ({"__all__": ("OnlyFields",), "OnlyFields": OnlyFields}, ["OnlyFields has no docstring"]),
    "function": ({"__all__": ("undocumented",), "undocumented": undocumented}, ["undocumented has no docstring"]),
}


@pytest.mark.parametrize(("contents", "expected"), FAKES.values(), ids=FAKES.keys())
def test_a_violation_is_found(contents: dict[str, object], expected: list[str]) -> None:
    module = ModuleType("fake")
    vars(module).update(contents)
    assert complaints(module) == expected
