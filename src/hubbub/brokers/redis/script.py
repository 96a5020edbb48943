"""The Lua scripts that lie beside this file, each sent by its checksum."""

from __future__ import annotations

from hashlib import sha1
from importlib.resources import files

__all__ = ("Script",)


class Script:
    """A script that Redis runs as one step.

    Args:
        names: Its parts, in this order, which are files of this package.
    """

    def __init__(self, *names: str) -> None:
        self.text = "".join(files(__package__).joinpath(f"{name}.lua").read_text("utf-8") for name in names).encode()
        self.checksum = sha1(self.text, usedforsecurity=False).hexdigest().encode()
