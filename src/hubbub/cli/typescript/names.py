"""Identifiers of TypeScript: from what the document calls things to names that are valid, and each one's own."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ("Names", "pascal", "preferred", "quoted")

# https://github.com/microsoft/TypeScript/blob/main/src/compiler/scanner.ts has them as `textToKeywordObj`. Here are
# those that cannot name a type.
_KEYWORDS = """
    any await bigint boolean break case catch class const continue debugger default delete do else enum export extends
    false finally for function if implements import in instanceof interface let never new null number object package
    private protected public return static string super switch symbol this throw true try typeof undefined unknown var
    infer keyof readonly unique void while with yield
"""
_GLOBALS = frozenset({"ArrayBuffer", "Map", "Promise", "ReadonlyMap", "Record", "ReturnType", "URL", "Uint8Array"})
"""Types that the client and the declarations use, and that a type of the same name would hide from them."""
_MODES = ("-Input", "-Output")
_PLAIN = re.compile(r"[A-Za-z_$][\w$]*", re.ASCII)


class Names:
    """The names of a file.

    Args:
        taken: Names that are given already.
    """

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = {*taken, *_KEYWORDS.split(), *_GLOBALS}

    def take(self, wanted: str, *forms: str) -> str:
        """Return a name that nothing has yet: the wanted one, if that is possible, or else one with a number behind it.

        Args:
            wanted: A valid identifier.
            forms: What will be named after it, such as `connect{}`; all of them are taken. Without any, the name is.
        """
        name, number = wanted, 1
        while not self._taken.isdisjoint(named := {form.format(name) for form in forms or ("{}",)}):
            number += 1
            name = f"{wanted}{number}"
        self._taken |= named
        return name


def preferred(key: str, title: object) -> str:
    """Return what the type of a schema should be named: what it is called in Python, as far as that is possible.

    Args:
        key: The schema's key in the document. Pydantic adds `-Input` or `-Output` where these differ, and puts an
            underscore for what a key cannot have: the brackets of a generic type are in its title only.
        title: The schema's title.
    """
    if isinstance(title, str) and "[" in title:
        return pascal(title + key[key.rfind("-") :] * key.endswith(_MODES))
    return key if _PLAIN.fullmatch(key) else pascal(key)


def pascal(text: str) -> str:
    """Return the words of a text as one identifier: `rooms.chat` is `RoomsChat`."""
    name = "".join(word[0].upper() + word[1:] for word in re.findall(r"[^\W_]+", text, re.ASCII))
    return name if _PLAIN.fullmatch(name) else f"_{name}"


def quoted(name: str, quote: str) -> str:
    """Return the name of a property as it stands in a type: as it is, or as the literal `quote` where it must be."""
    return name if _PLAIN.fullmatch(name) else quote
