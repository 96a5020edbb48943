"""Typed messages: from `Connection[In, Out]` in a route's signature to validators."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cached_property
from types import SimpleNamespace, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_typed_signature
from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, core_schema
from typing_extensions import TypeAliasType

from ..errors import InvalidMessage
from ..model import CloseCode, Data

__all__ = (
    "UNTYPED",
    "MessageTypes",
    "bare_annotation",
    "declared_types",
    "invalid_message",
    "looked_up",
    "raw_types",
    "unquoting_reason",
    "validates_outgoing",
)

_MOST_ERRORS = 16
_LONGEST_KEY = 64
_OWN_REASONS = frozenset(get_args(core_schema.ErrorType))
_WORD = re.compile(r"\w{3,}")


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
            raise invalid_message(invalid) from None

    def check(self, message: object) -> None:
        """Hold an outgoing message against its type.

        Raises:
            TypeError: It is not of the type.
        """
        raw = raw_types(self.outgoing)
        if self.outgoing is Any or (raw is not None and isinstance(message, raw)):
            return
        problem = f"send({message!r}): not what Connection[…, {self.outgoing}] declares"
        if raw is not None:
            raise TypeError(problem)
        try:
            self._outgoing.validate_python(message)
        except ValidationError as invalid:
            raise TypeError(f"{problem}: {invalid}") from None

    @cached_property
    def _raw(self) -> tuple[type, ...] | None:
        return raw_types(self.incoming)

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


def declared_types(dependant: Dependant, runtime: object, generic: type) -> MessageTypes:
    """Read `Connection[In, Out]` where a route, or one of its dependencies, asks for the connection.

    Args:
        dependant: The route's dependencies as FastAPI has read them.
        runtime: The hub's; where a route has connections of several hubs, its own declarations hold.
        generic: The class `Connection`.

    Raises:
        TypeError: Two places declare different types.
    """
    found = list(_declarations(dependant, generic))
    if any(of is runtime for of, _ in found):  # else this hub takes another's place (dependency_overrides)
        found = [(of, types) for of, types in found if of is runtime or of is None]
    declared = [types for _, types in found if types != UNTYPED]
    if any(types != declared[0] for types in declared):
        raise TypeError(
            f"{dependant.path}: the connection is declared with different types: "
            + " and ".join(f"Connection[{types.incoming}, {types.outgoing}]" for types in declared)
        )
    return declared[0] if declared else UNTYPED


def _declarations(dependant: Dependant, generic: type) -> Iterator[tuple[object, MessageTypes]]:
    """Find them, each with the hub's runtime, or `None` where a dependency passes a connection on."""
    for sub in dependant.dependencies:
        if sub.name is not None and dependant.call is not None:
            annotation = _annotation(dependant.call, sub.name)
            if annotation is generic or get_origin(annotation) is generic:
                yield getattr(sub.call, "_runtime", None), MessageTypes(*get_args(annotation))
            elif get_origin(annotation) in (Union, UnionType) and any(
                get_origin(part) is generic for part in get_args(annotation)
            ):
                raise TypeError(f"{dependant.path}: {sub.name}: {annotation} cannot be read; write Connection[In, Out]")
        yield from _declarations(sub, generic)


def _annotation(call: Callable[..., Any], name: str) -> Any:
    """Return a parameter's annotation without aliases and `Annotated`, and with the names in quotes looked up."""
    annotation = get_typed_signature(call).parameters[name].annotation
    # What cannot be resolved belongs to another dependency: FastAPI would not have found this one.
    with suppress(NameError, AttributeError, SyntaxError, TypeError):
        annotation = looked_up(annotation, call)
    return bare_annotation(annotation)


def looked_up(annotation: Any, call: Callable[..., Any]) -> Any:
    """Return an annotation with the names in quotes looked up where a callable stands.

    Raises:
        NameError, AttributeError, SyntaxError, TypeError: Something in it is not there at run time, or is no type.
    """
    module = getattr(call, "__module__", type(call).__module__)
    names = getattr(inspect.unwrap(call), "__globals__", None) or vars(sys.modules[module])
    holder = SimpleNamespace(__annotations__={"it": annotation})
    return get_type_hints(holder, globalns=names, include_extras=True)["it"]


def bare_annotation(annotation: Any) -> Any:
    """Return an annotation without aliases and `Annotated`."""
    while True:
        if isinstance(annotation, TypeAliasType):
            annotation = annotation.__value__
        elif get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        else:
            return annotation


def raw_types(declared: Any) -> tuple[type, ...] | None:
    """Return the kinds of message that are taken as they are, or `None` where JSON is due."""
    if declared is Any:
        return (str, bytes)
    members = get_args(declared) if get_origin(declared) in (Union, UnionType) else (declared,)
    return members if all(member is str or member is bytes for member in members) else None


def invalid_message(invalid: ValidationError) -> InvalidMessage:
    """Return what Pydantic says of a message as an error that quotes nothing of it."""
    errors = [
        {"type": error["type"], "loc": tuple(map(_key, error["loc"])), "msg": unquoting_reason(error)}
        for error in invalid.errors(include_url=False)[:_MOST_ERRORS]
    ]
    malformed = any(error["type"] == "json_invalid" and not error["loc"] for error in errors)
    return InvalidMessage(errors, CloseCode.INVALID_PAYLOAD if malformed else CloseCode.POLICY_VIOLATION)


def _key(key: str | int) -> str | int:
    return key[:_LONGEST_KEY] if isinstance(key, str) else key


def unquoting_reason(error: ErrorDetails) -> str:
    """Return the reason, unless it quotes a word of what the client sent: then one that does not."""
    context = error.get("ctx", {})
    if error["type"] == "union_tag_invalid":
        return f"The tag does not match any of the expected tags: {context['expected_tags']}"
    message = error["msg"]
    # Pydantic's own reasons are made from the schema, but for those that pass on the words of another error.
    if error["type"] in _OWN_REASONS and context.keys().isdisjoint(("error", "encoding_error")):
        return message
    is_quoting = not set(_WORD.findall(message)).isdisjoint(_WORD.findall(str(error["input"])))
    return "The value is not valid" if is_quoting else message
