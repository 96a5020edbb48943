"""What a document says of endpoints and channels: what is needed to write a client for them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote, unquote

__all__ = ("Channel", "Message", "Parameter", "channels")

Document = Mapping[str, Any]
Direction = Literal["receive", "send"]
"""As in the document, of what the application does."""

_BINARY = "application/octet-stream"
_TEXT = "text/plain"
_SAFE = "/{}!$&'()*+,;=:@~"  # what stands in the path of an address as it is, and the braces of parameters


@dataclass(frozen=True, slots=True)
class Message:
    """A message.

    Args:
        name: What the document calls it.
        content_type: How it is written.
        schema: What is in it.
        is_opaque: Whether it has no schema, though it is of a type.
    """

    name: str
    content_type: str
    schema: Any
    is_opaque: bool

    @property
    def is_binary(self) -> bool:
        """Whether it is bytes, and not a text."""
        return self.content_type == _BINARY

    @property
    def is_data(self) -> bool:
        """Whether it is any text or bytes, and not JSON."""
        return self.content_type in (_BINARY, _TEXT)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of the path or the query.

    Args:
        name: Its name there.
        schema: What it may be.
        is_required: Whether it cannot be left out.
    """

    name: str
    schema: Any
    is_required: bool


class Channel:
    """A channel of the document: an endpoint, or a family of channels of a hub.

    Args:
        document: The document.
        key: Its key there.
    """

    def __init__(self, document: Document, key: str) -> None:
        self.key = key
        self._document = document
        self._channel = document["channels"][key]
        self._extension = self._channel.get("x-hubbub", {})

    @property
    def is_endpoint(self) -> bool:
        """Whether a client connects to it."""
        return bool(self._extension.get("kind") == "endpoint")

    @property
    def address(self) -> str:
        """Its address, with the names of parameters in braces."""
        return str(self._channel["address"])

    @property
    def path(self) -> str:
        """Its address as it stands in a URL, again with the names in braces."""
        return quote(self.address, safe=_SAFE)

    @property
    def slashes(self) -> list[str]:
        """The parameters of the path that may contain slashes."""
        return [*self._extension.get("slashes", ())]

    @property
    def texts(self) -> list[str]:
        """What it says of itself, each paragraph once."""
        texts = (self._channel.get(key, "").strip() for key in ("summary", "description"))
        return [*dict.fromkeys(filter(None, texts))]

    def parameters(self) -> Iterator[Parameter]:
        """Yield the parameters of its path, then those of the query."""
        declared = self._channel.get("parameters", {})
        in_path = re.findall(r"{(\w+)}", self.address)
        for name in in_path:
            about = declared.get(name, {})
            schema = {"description": about.get("description", ""), **about.get("x-schema", {"type": "string"})}
            yield Parameter(name, schema, is_required=True)
        query = self._channel.get("bindings", {}).get("ws", {}).get("query", {})
        properties = {**{name: {"type": "string"} for name in self._keys_in_query()}, **query.get("properties", {})}
        for name, schema in properties.items():
            if name not in in_path:
                yield Parameter(name, schema, is_required=name in query.get("required", ()))

    def messages(self, direction: Direction) -> list[Message]:
        """Return what the application receives here, or sends, in the document's order."""
        references = [
            reference["$ref"]
            for operation in self._operations(direction)
            for reference in operation.get("messages", self._all_messages)
        ]
        return [self._message(reference) for reference in dict.fromkeys(references)]

    @property
    def _all_messages(self) -> list[dict[str, str]]:
        return [{"$ref": f"#/channels/{self.key}/messages/{name}"} for name in self._channel.get("messages", {})]

    def _operations(self, direction: Direction) -> Iterator[Mapping[str, Any]]:
        for operation in self._document.get("operations", {}).values():
            if operation["action"] == direction and operation["channel"]["$ref"] == f"#/channels/{self.key}":
                yield operation

    def _message(self, reference: str) -> Message:
        name = ""
        found: Any = {"$ref": reference}
        while "$ref" in found:
            name, found = _find(self._document, found["$ref"])
        default = self._document.get("defaultContentType", "application/json")
        is_opaque = "problem" in found.get("x-hubbub", {})
        return Message(
            found.get("name", name), found.get("contentType", default), found.get("payload", True), is_opaque
        )

    def _keys_in_query(self) -> Iterator[str]:
        """Yield the parameters of the query that only its security speaks of."""
        for direction in ("receive", "send"):
            for operation in self._operations(direction):
                for scheme in operation.get("security", ()):
                    found = _find(self._document, scheme["$ref"])[1] if "$ref" in scheme else scheme
                    if found.get("type") == "httpApiKey" and found.get("in") == "query":
                        yield found["name"]


def channels(document: Document) -> list[Channel]:
    """Return the channels of a document in its order."""
    return [Channel(document, key) for key in document.get("channels", {})]


def _find(document: Document, pointer: str) -> tuple[str, Any]:
    """Return what a reference within a document points to (RFC 6901), and the last part of the pointer."""
    found: Any = document
    part = ""
    for escaped in pointer.removeprefix("#/").split("/"):
        part = unquote(escaped).replace("~1", "/").replace("~0", "~")
        found = found[part]
    return part, found
