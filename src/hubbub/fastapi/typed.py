"""Typed messages: from `Connection[In, Out]` in a route's signature to validators."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Annotated, Any, get_args, get_origin

from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_typed_signature
from pydantic import TypeAdapter, ValidationError

from ..errors import InvalidMessage
from ..model import CloseCode, Data

__all__ = ("UNTYPED", "MessageTypes", "declared_types", "validates_outgoing")

_MOST_ERRORS = 16
_LONGEST_KEY = 64


class MessageTypes:
    """What a connection takes in and sends out.

    Args:
        incoming: `Any`, `str`, `bytes` or their union for messages as they are; any other type for JSON that Pydantic
            validates.
        outgoing: `Any`, or the type that `send` is held against in development.
    """

    def __init__(self, incoming: Any = Any, outgoing: Any = Any) -> None:
        self.incoming = incoming
        self.outgoing = outgoing

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MessageTypes) and (self.incoming, self.outgoing) == (other.incoming, other.outgoing)

    __hash__ = None  # type: ignore[assignment]

    def takes(self, data: Data) -> bool:
        """Return whether a message is of a kind, text or binary, that can be taken at all."""
        return self._raw is None or isinstance(data, self._raw)

    def decode(self, data: Data) -> Any:
        """Return what a message says.

        Raises:
            InvalidMessage: It is not JSON, not valid, or binary where JSON text is due.
        """
        if self._raw is not None:
            return data
        if isinstance(data, bytes):
            error = {"type": "binary", "loc": (), "msg": "Send a text message with JSON, not a binary one"}
            raise InvalidMessage([error], CloseCode.UNSUPPORTED_DATA)
        try:
            return self._incoming.validate_json(data)
        except ValidationError as invalid:
            raise _invalid(invalid) from None

    def check(self, message: object) -> None:
        """Hold an outgoing message against its type.

        Raises:
            TypeError: It is not of the type.
        """
        if self.outgoing is Any:
            return
        try:
            self._outgoing.validate_python(message)
        except ValidationError as invalid:
            raise TypeError(f"send({message!r}): not what Connection[…, {self.outgoing}] declares: {invalid}") from None

    @cached_property
    def _raw(self) -> tuple[type, ...] | None:
        """The kinds of message that are taken as they are, or `None` where JSON is due."""
        if self.incoming is Any:
            return (str, bytes)
        kinds = set(get_args(self.incoming) or (self.incoming,))
        return tuple(kinds) if kinds <= {str, bytes} else None

    @cached_property
    def _incoming(self) -> TypeAdapter[Any]:
        return TypeAdapter(self.incoming)

    @cached_property
    def _outgoing(self) -> TypeAdapter[Any]:
        return TypeAdapter(self.outgoing)


UNTYPED = MessageTypes()


def validates_outgoing(scope: Any) -> bool:
    """Return whether this is development: the application's debug mode, or `python -X dev`."""
    return sys.flags.dev_mode or bool(getattr(scope.get("app"), "debug", False))


def declared_types(dependant: Dependant, provides: Callable[[object], bool], generic: type) -> MessageTypes:
    """Read `Connection[In, Out]` where a route, or one of its dependencies, asks for the connection.

    Args:
        dependant: The route's dependencies as FastAPI has read them.
        provides: Whether a dependency's callable is the one that gives the connection.
        generic: The class `Connection`.

    Raises:
        TypeError: Two places declare different types.
    """
    found = [types for types in _declarations(dependant, provides, generic) if types != UNTYPED]
    if any(types != found[0] for types in found):
        raise TypeError(
            f"{dependant.path}: the connection is declared with different types: "
            + " and ".join(f"Connection[{types.incoming}, {types.outgoing}]" for types in found)
        )
    return found[0] if found else UNTYPED


def _declarations(dependant: Dependant, provides: Callable[[object], bool], generic: type) -> Iterator[MessageTypes]:
    for sub in dependant.dependencies:
        if provides(sub.call) and sub.name is not None and dependant.call is not None:
            annotation = get_typed_signature(dependant.call).parameters[sub.name].annotation
            if get_origin(annotation) is Annotated:
                annotation = get_args(annotation)[0]
            if get_origin(annotation) is generic:
                yield MessageTypes(*get_args(annotation))
        yield from _declarations(sub, provides, generic)


def _invalid(invalid: ValidationError) -> InvalidMessage:
    errors = [
        {"type": error["type"], "loc": tuple(map(_key, error["loc"])), "msg": _message(error)}
        for error in invalid.errors(include_url=False, include_input=False)[:_MOST_ERRORS]
    ]
    malformed = any(error["type"] == "json_invalid" for error in errors)
    return InvalidMessage(errors, CloseCode.INVALID_PAYLOAD if malformed else CloseCode.POLICY_VIOLATION)


def _key(key: str | int) -> str | int:
    return key[:_LONGEST_KEY] if isinstance(key, str) else key


def _message(error: Any) -> str:
    # The one message of Pydantic's own that quotes what the client sent.
    if error["type"] == "union_tag_invalid":
        return f"The tag does not match any of the expected tags: {error['ctx']['expected_tags']}"
    return str(error["msg"])
