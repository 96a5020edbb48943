"""`hubbub types`: the messages and endpoints of an application for its front end, as one file of TypeScript.

The file has the types of all messages, a function `connect…` for each endpoint, and what these need: the client in
`client.ts`, which is put into it as it is. It imports nothing.
"""

from .writer import typescript

__all__ = ("typescript",)
