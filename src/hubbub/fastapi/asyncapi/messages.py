"""The messages of a document, each under one name, however many endpoints have them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from typing_extensions import TypedDict

from ..envelope import Enveloped
from ..typed import bare_annotation, raw_types
from .schemas import JsonObject, Mode, NoSchema, SchemaKey, Schemas, as_key, definition_name, members, put

__all__ = ("InvalidMessage", "Messages", "Opaque", "Otherwise", "Slot")

_JSON, _TEXT, _BINARY = "application/json", "text/plain", "application/octet-stream"

Otherwise = Literal["text", "any"]
"""What stands there where nothing is declared."""


@dataclass(frozen=True, slots=True)
class Opaque:
    """A message of a type without a schema.

    Args:
        name: The type's name.
        problem: Why it has none.
    """

    name: str
    problem: str


Slot = SchemaKey | Literal["text", "binary", "any"] | Opaque
"""A message before the schemas are made: what its schema is asked for with, or one that needs none."""


class Fault(TypedDict):
    """One fault of a message."""

    type: str
    loc: list[str | int]
    msg: str


class InvalidMessage(TypedDict):
    """The answer to a message that does not fit: where, and why; never what was sent."""

    type: Literal["error"]
    code: Literal["invalid_message"]
    errors: list[Fault]


_FIXED: dict[str, JsonObject] = {
    "text": {"title": "Text", "contentType": _TEXT, "payload": {"type": "string"}},
    "binary": {
        "title": "Binary",
        "contentType": _BINARY,
        "payload": {"type": "string", "format": "binary"},
    },
    "any": {"title": "Any JSON", "contentType": _JSON, "payload": {}},
}


class _Unresolved(Exception):
    """A member of a union names what cannot be looked up, once it stands alone."""


class Messages:
    """The messages of all endpoints and channels.

    Args:
        schemas: Where their schemas are made.

    Attributes:
        components: The messages by name, once they were asked for.
    """

    def __init__(self, schemas: Schemas) -> None:
        self._schemas = schemas
        self._titles: dict[SchemaKey, str] = {}
        self._content_types: dict[SchemaKey, str] = {}
        self.components: dict[str, JsonObject] = {}

    def add(self, declared: Any, mode: Mode, otherwise: Otherwise, *, is_bare: bool) -> list[Slot]:
        """Add the messages that a type stands for, and return them.

        Args:
            declared: The type, a union for several messages; `Any` where nothing is declared.
            mode: Whether a client sends them or receives them.
            otherwise: What stands for `Any`.
            is_bare: Whether a text in a union is the message itself, and not JSON with quotes around it.
        """
        raw = raw_types(declared)
        if declared is Any:
            return [otherwise]
        if raw is not None:
            return ["text" if kind is str else "binary" for kind in raw]
        try:
            each = [*members(declared)]
            slots = [*dict.fromkeys(self._slot(member, mode, is_bare, is_part=len(each) > 1) for member in each)]
        except _Unresolved:  # the names in an alias belong to where it stands: then it is one message
            return [self._slot(declared, mode, is_bare, is_part=False)]
        if len(each) > 1 and mode == "validation":
            with suppress(NoSchema):
                self._schemas.add(declared, mode)  # which tells what tells its members apart
        return slots

    def _slot(self, member: Any, mode: Mode, is_bare: bool, *, is_part: bool) -> Slot:
        content_type = _bare_content_type(member) if is_bare else None
        if content_type is not None and member in (str, bytes):
            return "text" if member is str else "binary"
        try:
            key = self._schemas.add(member, mode)
        except NoSchema as fault:
            if fault.is_unresolved and is_part:
                raise _Unresolved from fault
            return Opaque(_name(member), f"{_name(member)} has no JSON Schema: {fault}")
        self._content_types[key] = content_type or _JSON
        if get_origin(member) is Enveloped:  # Pydantic's title does not name the type inside
            self._titles[key] = f"Envelope[{_name(get_args(member)[0])}]"
        return key

    def name(self, slot: Slot) -> str:
        """Return the name of a message among the components, where it stands from now on."""
        if isinstance(slot, Opaque):
            return self._put(as_key(slot.name, "message"), _opaque(slot))
        if isinstance(slot, str):
            return self._put(slot, _FIXED[slot])
        schema = self._schemas[slot]
        definition = definition_name(schema)
        full = schema if definition is None else self._schemas.definitions[definition]
        if slot in self._titles:
            full["title"] = self._titles[slot]
        return self._put(definition or _kind(schema), _message(schema, full, self._content_types[slot]))

    def _put(self, wanted: str, message: JsonObject) -> str:
        return put(self.components, wanted, lambda name: {"name": name, **message})


def _bare_content_type(member: Any) -> str | None:
    """Return how a value is sent that is a text or bytes by itself: the hub looks at its class."""
    bare = bare_annotation(member)
    bare = getattr(bare, "__supertype__", bare)  # a NewType's
    values = get_args(bare) if get_origin(bare) is Literal else ()
    if values and all(isinstance(value, str) for value in values):
        return _TEXT
    if isinstance(bare, type) and issubclass(bare, str | bytes):
        return _TEXT if issubclass(bare, str) else _BINARY
    return None


def _opaque(slot: Opaque) -> JsonObject:
    return {
        "title": slot.name,
        "description": "It has no JSON Schema.",
        "contentType": _JSON,
        "payload": {},
        "x-hubbub": {"problem": slot.problem},
    }


def _message(schema: JsonObject, full: JsonObject, content_type: str) -> JsonObject:
    title = full.get("title") or _kind(full)
    description = {"description": full["description"]} if "description" in full else {}
    examples = [{"payload": example} for example in full.get("examples", ())]
    return {
        "title": title,
        **description,
        "contentType": content_type,
        "payload": schema,
        **({"examples": examples} if examples else {}),
    }


def _kind(schema: JsonObject) -> str:
    kind = schema.get("type")
    return kind if isinstance(kind, str) else "any"


def _name(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)
