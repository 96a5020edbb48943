"""The messages of a document, each under one name, however many endpoints have them."""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin

from typing_extensions import TypedDict

from ..envelope import Enveloped
from ..typed import raw_types
from .schemas import JsonObject, Mode, NoSchema, Schemas, members, reference

__all__ = ("InvalidMessage", "Messages", "Otherwise", "Slot")

Otherwise = Literal["text", "any"]
"""What stands there where nothing is declared."""

Slot = tuple[int, Mode] | Literal["text", "binary", "any"]
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
    "text": {"title": "Text", "contentType": "text/plain", "payload": {"type": "string"}},
    "binary": {
        "title": "Binary",
        "contentType": "application/octet-stream",
        "payload": {"type": "string", "format": "binary"},
    },
    "any": {"title": "Any JSON", "contentType": "application/json", "payload": {}},
}


class Messages:
    """The messages of all endpoints and channels.

    Args:
        schemas: Where their schemas are made.

    Attributes:
        components: The messages by name, once they were asked for.
    """

    def __init__(self, schemas: Schemas) -> None:
        self._schemas = schemas
        self._titles: dict[Slot, str] = {}
        self.components: dict[str, JsonObject] = {}

    def add(self, declared: Any, mode: Mode, otherwise: Otherwise) -> tuple[list[Slot], list[str]]:
        """Add the messages that a type stands for.

        Args:
            declared: The type, a union for several messages; `Any` where nothing is declared.
            mode: Whether a client sends them or receives them.
            otherwise: What stands for `Any`.

        Returns:
            The messages, and what is wrong with those that cannot be described.
        """
        raw = raw_types(declared)
        if declared is Any:
            return [otherwise], []
        if raw is not None:
            return ["text" if kind is str else "binary" for kind in raw], []
        slots: list[Slot] = []
        problems: list[str] = []
        for member in members(declared):
            if mode == "serialization" and member in (str, bytes):  # which goes out as it is, also beside others
                slots.append("text" if member is str else "binary")
                continue
            try:
                slots.append(key := self._schemas.add(member, mode))
                if get_origin(member) is Enveloped:  # Pydantic leaves out of what
                    self._titles[key] = f"Envelope[{_name(get_args(member)[0])}]"
            except NoSchema as fault:
                slots.append("any")
                problems.append(f"{_name(member)} has no JSON Schema: {fault}")
        return [*dict.fromkeys(slots)], problems

    def name(self, slot: Slot) -> str:
        """Return the name of a message among the components, where it stands from now on."""
        if isinstance(slot, str):
            self.components[slot] = {"name": slot, **_FIXED[slot]}
            return slot
        schema = self._schemas[slot]
        definition = reference(schema)
        full = schema if definition is None else self._schemas.definitions[definition]
        if slot in self._titles:
            full["title"] = self._titles[slot]
        message = _message(schema, full)
        name = self._free(definition or _kind(schema), message)
        self.components[name] = {"name": name, **message}
        return name

    def _free(self, name: str, message: JsonObject) -> str:
        """Return a name that no other message has."""
        candidate, number = name, 1
        while self.components.get(candidate, {"name": candidate, **message}) != {"name": candidate, **message}:
            number += 1
            candidate = f"{name}_{number}"
        return candidate


def _message(schema: JsonObject, full: JsonObject) -> JsonObject:
    title = full.get("title") or _kind(full)
    description = {"description": full["description"]} if "description" in full else {}
    examples = [{"payload": example} for example in full.get("examples", ())]
    return {
        "title": title,
        **description,
        "contentType": "application/json",
        "payload": schema,
        **({"examples": examples} if examples else {}),
    }


def _kind(schema: JsonObject) -> str:
    kind = schema.get("type")
    return kind if isinstance(kind, str) else "any"


def _name(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)
