"""The AsyncAPI 3.0 document of an application (https://www.asyncapi.com/docs/reference/specification/v3.0.0).

Theory of operation. What the application declares is read first, and each type that it names is added to the schemas.
Then Pydantic makes all schemas at once, so that it can tell types of the same name apart, and what was read is written
down with references to them. What cannot become a schema is a line under `problems` and no reason to have no document.

In AsyncAPI the application is the one who acts: what a client sends is an operation `receive`, what it hears a `send`.
The hub's own settings stand under `x-hubbub`, an extension.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Union, get_args
from urllib.parse import quote, urlsplit

from fastapi.dependencies.utils import get_typed_signature

from ..families import Event, Family
from ..handlers import Handler
from ..typed import UNTYPED, MessageTypes, looked_up, raw_types
from .behaviour import behaviour_of, set_fields
from .endpoints import Endpoint, endpoints
from .messages import InvalidMessage, Messages, Opaque, Otherwise, Slot
from .parameters import Fields, Place, fields_of, object_of, schema_of_convertor, takes_slashes
from .schemas import JsonObject, Mode, NoSchema, SchemaKey, Schemas, as_key, members, numbered, plain, put
from .security import Requirement, is_absolute, requirements_of

__all__ = ("document", "problems_of", "servers")

_PARAMETER = re.compile(r"\{\w+\}")


@dataclass
class _Channel:
    """An endpoint or a family of channels, while its document is made.

    Args:
        key: Its name in the document.
        head: What is known of it at once.
        extension: What stands under `x-hubbub`.
        received: What the application receives.
        sent: What it sends.
        path: The parameters of the address, as far as it alone tells.
        parts: The parameters of the handshake by place, each place one object.
        security: The security schemes that it asks for.
        problems: What could not be described.
    """

    key: str
    head: JsonObject
    extension: JsonObject
    received: list[Slot] = field(default_factory=list)
    sent: list[Slot] = field(default_factory=list)
    path: dict[str, JsonObject] = field(default_factory=dict)
    parts: dict[Place, SchemaKey] = field(default_factory=dict)
    security: list[Requirement] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def document(app: Any, families: Iterable[Family]) -> JsonObject:
    """Return the AsyncAPI document of an application.

    Args:
        app: A FastAPI application.
        families: Families of channels beside those of the hubs that its endpoints use.
    """
    return _Reading(families).of(app)


def servers(address: str) -> JsonObject:
    """Return what a document has under `servers`, for an address such as `wss://example.org/root/path`."""
    parts = urlsplit(address)
    server = {"host": parts.netloc, "protocol": parts.scheme, "pathname": quote(parts.path.rstrip("/"), safe="/%")}
    return {"current": _filled(server)}


def problems_of(document: JsonObject) -> list[str]:
    """Return what could not be described, each with the name of the endpoint or the channels."""
    return [
        f"{key}: {problem}"
        for key, channel in document["channels"].items()
        for problem in channel["x-hubbub"].get("problems", ())
    ]


class _Reading:
    """One reading of an application."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families
        self._schemas = Schemas()
        self._messages = Messages(self._schemas)
        self._security: dict[str, JsonObject] = {}
        self._keys: set[str] = set()

    def of(self, app: Any) -> JsonObject:
        found = [*endpoints(getattr(app, "routes", ()))]
        of_endpoints = (family for one in found if one.connection is not None for family in one.connection.families)
        families = dict.fromkeys((*self._families, *of_endpoints))
        channels = [
            *map(self._endpoint, found),
            *map(self._family, sorted(families, key=lambda family: family.pattern.pattern)),
        ]
        self._schemas.resolve()
        written = {channel.key: self._write(channel) for channel in channels}
        operations = {key: operation for channel in channels for key, operation in self._operations(channel)}
        described = {
            "asyncapi": "3.0.0",
            "info": _info(app),
            "defaultContentType": "application/json",
            "channels": written,
            "operations": operations,
            "components": _filled(
                {
                    "messages": dict(sorted(self._messages.components.items())),
                    "schemas": self._schemas.named(),
                    "securitySchemes": dict(sorted(self._security.items())),
                }
            ),
        }
        result: JsonObject = plain(described)
        return result

    # Reading

    def _endpoint(self, endpoint: Endpoint) -> _Channel:
        summary, _, description = endpoint.documentation.partition("\n\n")
        head = {
            "address": endpoint.address,
            "title": _title(endpoint.name),
            "summary": " ".join(summary.split()),
            "description": description.strip(),
            "tags": [{"name": tag} for tag in endpoint.tags],
        }
        channel = _Channel(self._key(endpoint.name), head, {"kind": "endpoint"})
        types = self._types(endpoint, channel)
        is_raw = raw_types(types.incoming) is not None
        self._add(channel, "received", types.incoming, "validation", "text")
        self._add(channel, "sent", types.outgoing, "serialization", "text" if is_raw else "any")
        if endpoint.connection is not None:
            channel.extension |= behaviour_of(endpoint.connection, types)
            if not is_raw and endpoint.connection.on_invalid == "reply":
                self._add(channel, "sent", InvalidMessage, "serialization", "any")
        self._handshake(channel, endpoint)
        channel.security = requirements_of(endpoint.dependant)
        return channel

    def _types(self, endpoint: Endpoint, channel: _Channel) -> MessageTypes:
        try:
            return endpoint.types()
        except TypeError as fault:  # its declarations contradict each other
            channel.problems.append(str(fault))
            return UNTYPED

    def _family(self, family: Family) -> _Channel:
        pattern, options = family.pattern, family.options
        hub = {
            "kind": "channel",
            **({"policy": options.policy} if options.policy else {}),
            **({"history": set_fields(options.history)} if options.history else {}),
            **({"presence": set_fields(options.presence)} if options.presence else {}),
        }
        key = self._key(_PARAMETER.sub("", pattern.pattern).strip(":") or "channel")
        channel = _Channel(key, {"address": pattern.pattern, "title": pattern.pattern}, hub)
        channel.path = {name: {} for name in pattern.parameters}
        publishes = family.handler(Event.PUBLISH)
        if publishes is not None:
            self._add_published(channel, publishes)
        fields: Fields = {}
        for handler in family.handlers:  # what the first one says of a parameter holds
            fields = fields_of(handler.dependant, "path") | fields
        self._add_part(channel, "path", fields)
        return channel

    def _add_published(self, channel: _Channel, handler: Handler) -> None:
        """Add what an `on_publish` takes, and what it makes of that."""
        taken = _declared(get_typed_signature(handler.function).parameters["message"].annotation)
        self._add(channel, "received", taken, "validation", "any")
        try:
            published = _published(handler.function, taken)
        except Exception as fault:  # what evaluating an annotation may raise
            channel.problems.append(f"what on_publish returns cannot be looked up: {fault}")
            published = Any
        self._add(channel, "sent", published, "serialization", "any")

    def _handshake(self, channel: _Channel, endpoint: Endpoint) -> None:
        """Read what the handshake carries."""
        channel.path = {name: schema_of_convertor(convertor) for name, convertor in endpoint.convertors.items()}
        channel.extension["slashes"] = [name for name, one in endpoint.convertors.items() if takes_slashes(one)]
        for place in get_args(Place):
            self._add_part(channel, place, fields_of(endpoint.dependant, place))

    def _add_part(self, channel: _Channel, place: Place, fields: Fields) -> None:
        """Add the parameters in one place; what has no schema is left out, and is a problem."""
        described: Fields = {}
        for name, one in fields.items():
            try:
                self._schemas.adapter_of(object_of({name: one}), "validation")
            except NoSchema as fault:
                channel.problems.append(f"the {place} parameter {name} has no JSON Schema: {fault}")
            else:
                described[name] = one
        if described:
            channel.parts[place] = self._schemas.add(object_of(described), "validation")

    def _add(
        self, channel: _Channel, direction: Literal["received", "sent"], declared: Any, mode: Mode, otherwise: Otherwise
    ) -> None:
        """Add the messages of one direction."""
        is_bare = mode == "serialization" or channel.extension["kind"] == "channel"
        slots = self._messages.add(declared, mode, otherwise, is_bare=is_bare)
        getattr(channel, direction).extend(slots)
        problems = dict.fromkeys(slot.problem for slot in slots if isinstance(slot, Opaque))
        channel.problems += (problem for problem in problems if problem not in channel.problems)

    def _key(self, name: str) -> str:
        """Return a key for a name that no other channel has."""
        key = next(key for key in numbered(as_key(name, "endpoint")) if key not in self._keys)
        self._keys.add(key)
        return key

    # Writing

    def _write(self, channel: _Channel) -> JsonObject:
        parts = {place: self._schemas.inlined(key) for place, key in channel.parts.items()}
        path = dict(channel.path)
        for name, schema in parts.get("path", {}).get("properties", {}).items():
            path[name] = _told_twice(path.get(name, {}), schema)
        hub = {**channel.extension, "cookies": _part(parts.get("cookie")), "problems": channel.problems}
        names = dict.fromkeys(map(self._messages.name, (*channel.received, *channel.sent)))
        return _filled(
            {
                **channel.head,
                "parameters": {name: _parameter(schema) for name, schema in path.items()},
                "bindings": _binding(parts) if channel.extension["kind"] == "endpoint" else {},
                "messages": {name: _reference("components", "messages", name) for name in names},
                "x-hubbub": _filled(hub),
            }
        )

    def _secured(self, requirement: Requirement) -> JsonObject:
        """Return a reference to a security scheme, or the scheme itself with the scopes that are asked for.

        AsyncAPI lists alternatives here (section "Operation Object"). FastAPI's dependencies all have to be met: there
        is no way to say that.
        """
        name = put(self._security, as_key(requirement.name, "security"), lambda _: requirement.scheme)
        if requirement.scopes and "flows" in requirement.scheme:
            return {**requirement.scheme, "scopes": [*requirement.scopes]}
        return _reference("components", "securitySchemes", name)

    def _operations(self, channel: _Channel) -> Iterator[tuple[str, JsonObject]]:
        security: list[JsonObject] = []
        for scheme in map(self._secured, channel.security):
            if scheme not in security:
                security.append(scheme)
        for action, slots in (("receive", channel.received), ("send", channel.sent)):
            if slots:
                names = dict.fromkeys(map(self._messages.name, slots))
                operation = {
                    "action": action,
                    "channel": _reference("channels", channel.key),
                    "messages": [_reference("channels", channel.key, "messages", name) for name in names],
                    "security": security,
                }
                yield f"{channel.key}.{action}", _filled(operation)


def _published(function: Callable[..., Any], taken: Any) -> Any:
    """Return what goes out after an `on_publish`: what it returns, or the message where it returns nothing.

    Raises:
        Exception: Its annotation names what is not there at run time, or is no type.
    """
    annotation = inspect.signature(function).return_annotation
    published = _declared(looked_up(annotation, function) if isinstance(annotation, str) else annotation)
    if published in (Any, None, type(None)):
        return taken
    kept = [member for member in members(published) if member is not type(None)]
    if len(kept) == len([*members(published)]):
        return published
    return Union[(*kept, taken)] if taken is not Any else Any


def _declared(annotation: Any) -> Any:
    return Any if annotation is inspect.Parameter.empty else annotation


def _part(schema: JsonObject | None) -> JsonObject:
    """Return one part of the handshake as a schema without the name of our own model."""
    return {key: value for key, value in (schema or {}).items() if key not in ("title", "description")}


def _told_twice(by_path: JsonObject, by_function: JsonObject) -> JsonObject:
    """Return the schema of a parameter of which the path says something, and the function too."""
    if by_function.keys() & {"$ref", "anyOf", "oneOf", "allOf", "const", "enum"}:
        return by_function
    is_same = by_function.get("type", by_path.get("type")) == by_path.get("type")
    return {**by_path, **by_function} if is_same else by_function


def _parameter(schema: JsonObject) -> JsonObject:
    """Return a parameter of an address: AsyncAPI has no types there, so that the schema is an extension."""
    told: JsonObject = {key: schema[key] for key in ("description", "examples") if key in schema}
    if "examples" in told:
        told["examples"] = [*map(str, told["examples"])]
    return {**told, **({"x-schema": schema} if schema else {})}


def _binding(parts: Mapping[Place, JsonObject]) -> JsonObject:
    """Return the binding to WebSockets, which has the other parameters of the handshake."""
    binding = {"method": "GET", "query": _part(parts.get("query")), "headers": _part(parts.get("header"))}
    return {"ws": {**_filled(binding), "bindingVersion": "0.1.0"}}


def _reference(*path: str) -> JsonObject:
    return {"$ref": f"#/{'/'.join(path)}"}


def _filled(of: JsonObject) -> JsonObject:
    """Return an object without what has nothing in it."""
    return {key: value for key, value in of.items() if value not in ("", None, {}, [])}


def _title(name: str) -> str:
    return name.replace("_", " ").strip().capitalize() or name


def _info(app: Any) -> JsonObject:
    """Return what an application says about itself, as far as AsyncAPI has it."""
    return {
        "title": str(getattr(app, "title", None) or "Application"),
        "version": str(getattr(app, "version", None) or "0"),
        **_filled(
            {
                "description": getattr(app, "description", ""),
                "termsOfService": terms if is_absolute(terms := str(getattr(app, "terms_of_service", ""))) else "",
                "contact": _some(getattr(app, "contact", None), "name", "url", "email"),
                "license": _some(getattr(app, "license_info", None), "name", "url"),
                "tags": [_some(tag, "name", "description") for tag in getattr(app, "openapi_tags", None) or ()],
            }
        ),
    }


def _some(of: Mapping[str, Any] | None, *keys: str) -> JsonObject:
    return {key: of[key] for key in keys if key in of} if of else {}
