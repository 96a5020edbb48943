"""The Lua scripts that lie beside this file, each sent by its checksum."""

from __future__ import annotations

from hashlib import sha1
from importlib.resources import files

__all__ = ("Script",)


class Script:
    """A script that Redis runs as one step.

    Args:
        names: Its parts, in this order, which are files of this package.
        owner: Whose it is, if it is not the same for all who use the server: it has a checksum of its own then.
    """

    def __init__(self, *names: str, owner: bytes = b"") -> None:
        self.text = "".join(files(__package__).joinpath(f"{name}.lua").read_text("utf-8") for name in names).encode()
        self.text += b"-- " + owner
        self.checksum = sha1(self.text, usedforsecurity=False).hexdigest().encode()
