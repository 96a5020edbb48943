"""Handlers of a family of channels: an application's functions with parameters and dependencies, as routes have them.

Theory of operation. A handler's signature is taken apart once, when it is declared. The peer and the message are the
hub's to give. What is left is a signature that FastAPI understands: the channel's parameters are its path parameters,
and the rest its dependencies. FastAPI's own `get_dependant` reads it, and `solve_dependencies` fills it at each call.

A call is not a request. It gets a copy of the peer's scope with the channel's parameters as path parameters and exit
stacks of its own, so that what it opens is closed before it returns, and nothing of it stays with the connection. A
handler that has no dependencies needs neither scope nor stacks, and a call of it costs a fraction.
"""

from __future__ import annotations

import enum
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from functools import partial
from types import UnionType
from typing import Any, ForwardRef, Literal, NoReturn, Union, get_args, get_origin

from fastapi import params
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_dependant, get_typed_signature, solve_dependencies
from fastapi.security import SecurityScopes
from pydantic import TypeAdapter, ValidationError
from starlette.background import BackgroundTasks
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import Scope
from starlette.websockets import WebSocket

from ..errors import Denied
from ..state.pattern import ChannelPattern
from ..wire.frames import shortened
from .connection import Connection
from .peer import Peer, RequestPeer
from .typed import bare_annotation, invalid_message, raw_types, unquoting_reason

__all__ = ("Handler", "dependants", "requestless_scope")

_NOTHING: Any = object()
_NO_ANNOTATION = inspect.Parameter.empty
_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_GIVEN_BY_TYPE = (HTTPConnection, Response, SecurityScopes, BackgroundTasks)
_LOOK_UP = "what annotations name must be in the module at run time, not in a function or under TYPE_CHECKING"
_INVALID_PARAMETER_STATUS = 422
"""The status that FastAPI answers an invalid parameter with."""


class Handler:
    """A function of the application that is called for a channel, with the parameters and dependencies it asks for.

    Args:
        function: Async, or sync and then run in the thread pool. A parameter named as one of the pattern's is validated
            as a path parameter; one annotated with `Peer` or `Connection`, or named `peer`, gets the peer; the one
            that `takes` names gets what is given. All others say where they come from, as in a route:
            `Depends(…)`, `Header()`, `Query()`, `Cookie()`.
        pattern: The names of the channels that it is for.
        takes: The name of what it is called with beside the peer, such as `message`: it must have a parameter of that
            name then, and that gets it validated by Pydantic.
        takes_peer: Whether it is called on behalf of a peer.

    Attributes:
        function: The function.
        dependant: Its parameters and dependencies, without what is given, as FastAPI has read them.
        needs_scope: Whether a call needs the peer's scope: it has dependencies.

    Raises:
        TypeError: It is not such a function. The text says which parameter is at fault, and what to write.
        ValueError: The pattern has a parameter with the name of what is given.
    """

    __slots__ = (
        "_is_async",
        "_message",
        "_peer_name",
        "_takes",
        "_takes_only",
        "dependant",
        "function",
        "needs_scope",
    )

    def __init__(
        self,
        function: Callable[..., Any],
        pattern: ChannelPattern,
        *,
        takes: str | None = None,
        takes_peer: bool = True,
    ) -> None:
        declaration = _Declaration(function, pattern)
        self.function = function
        self._is_async = _is_async(function)
        self._peer_name, self._takes_only = declaration.take_peer(takes_peer)
        message = declaration.take_given(takes)
        self._takes = takes
        self._message = None if message is None else declaration.message_type(message)
        self.dependant = declaration.dependant(takes_peer)
        self.needs_scope = _has_dependencies(self.dependant, pattern)

    def __repr__(self) -> str:
        return f"<Handler {_name(self.function)}>"

    async def call(
        self, peer: Peer | None, scope: Scope | None, parameters: Mapping[str, str], message: object = None
    ) -> Any:
        """Call the function and return what it returns. Its dependencies are closed by then.

        Args:
            peer: On whose behalf; `None` for a handler that takes no peer.
            scope: The scope of the peer's WebSocket or request, which stays as it is, or `requestless_scope`. `None`
                will do for a handler that does not need it (see `needs_scope`).
            parameters: The parameters of the channel, as `ChannelPattern.parameters_of` gives them.
            message: The message, for a handler that takes one. A `str` is JSON, unless the parameter's type has text.

        Raises:
            Denied: The function or a dependency has raised it or an `HTTPException`, or a parameter, header, query
                parameter or cookie is not valid.
            InvalidMessage: The message is not what the function takes.
            Exception: What else the function or a dependency has raised.
        """
        return await self.call_with(peer, scope, parameters, self.validated(message))

    async def call_with(
        self, peer: Peer | None, scope: Scope | None, parameters: Mapping[str, str], value: object
    ) -> Any:
        """Call the function with a message that is `validated`. Everything else is as for `call`."""
        values: dict[str, Any] = {}
        if self._peer_name is not None:
            if self._takes_only is not None and not isinstance(peer, self._takes_only):
                raise TypeError(
                    f"{_name(self.function)}: {self._peer_name!r} takes a {self._takes_only.__name__}, and this is "
                    f"{type(peer).__name__}: annotate it with Peer, which fits all"
                )
            values[self._peer_name] = peer
        if self._takes is not None:
            values[self._takes] = value
        try:
            if self.needs_scope:
                return await self._solve_and_run(values, scope, parameters)
            self._add_parameters(values, parameters)
            return await self._run(values)
        except HTTPException as refusal:
            raise Denied(str(refusal.detail), status=refusal.status_code, headers=refusal.headers or {}) from refusal

    def validated(self, message: object) -> Any:
        """Return the message as the function gets it.

        Raises:
            InvalidMessage: It is not what the function takes.
        """
        return message if self._message is None else self._message.validate(message)

    async def _run(self, values: dict[str, Any]) -> Any:
        if self._is_async:
            return await self.function(**values)
        return await run_in_threadpool(self.function, **values)

    def _add_parameters(self, values: dict[str, Any], parameters: Mapping[str, str]) -> None:
        """Validate the channel's parameters as FastAPI does, without the rest of `solve_dependencies`."""
        for field in self.dependant.path_params:
            value, errors = field.validate(parameters[field.alias], values, loc=("path", field.alias))
            if errors:
                raise _denied(errors[0])
            values[field.name] = value

    async def _solve_and_run(self, values: dict[str, Any], scope: Scope | None, parameters: Mapping[str, str]) -> Any:
        if scope is None:
            raise RuntimeError(
                f"{_name(self.function)}: its dependencies read the request or the handshake, which is not there"
            )
        own_scope = {**scope, "path_params": dict(parameters)}
        provider = own_scope.get("app")
        result = _NOTHING
        async with AsyncExitStack() as outer, AsyncExitStack() as inner:
            own_scope["fastapi_middleware_astack"] = own_scope["fastapi_inner_astack"] = outer
            own_scope["fastapi_function_astack"] = inner
            solved = await solve_dependencies(
                request=_request(own_scope),
                dependant=self.dependant,
                dependency_overrides_provider=provider if hasattr(provider, "dependency_overrides") else None,
                async_exit_stack=outer,
                embed_body_fields=False,
            )
            if solved.errors:
                raise _denied(solved.errors[0])
            result = await self._run({**values, **solved.values})
        if result is _NOTHING:  # and a refusal must not be taken for a consent
            raise RuntimeError(
                f"{_name(self.function)}: a dependency with yield has caught an exception and not raised it again; "
                "end its except block with raise"
            )
        return result


def requestless_scope(app: object | None = None, state: Mapping[str, Any] | None = None) -> Scope:
    """Return a scope for handlers that are called on behalf of nobody: a request that says nothing.

    Args:
        app: The application, for its `dependency_overrides` and its `state`.
        state: The lifespan's state, which `request.state` starts with.
    """
    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": [], "path_params": {}}
    return {**scope, "app": app, "state": dict(state or {})}


class _Declaration:
    """A handler's parameters while it is taken apart.

    Raises:
        TypeError: It is no function, or has parameters that cannot be given by name.
    """

    def __init__(self, function: Callable[..., Any], pattern: ChannelPattern) -> None:
        self._function = function
        self._pattern = pattern
        if not callable(function) or inspect.isclass(function):
            raise TypeError(f"{function!r}: a handler is a function, async or not")
        if any(map(_is_generator, _callables(function))):
            raise TypeError(f"{_name(function)}: a handler returns, it does not yield; a dependency may")
        try:
            self._rest = dict(get_typed_signature(function).parameters)
        except (NameError, ValueError) as error:
            raise TypeError(f"{_name(function)}: {error}: {_LOOK_UP}") from error
        for parameter in self._rest.values():
            if parameter.kind not in _BY_NAME:
                self._refuse(parameter, "handlers are called with arguments by name: write each one out")

    def take_peer(self, is_given: bool) -> tuple[str | None, type | None]:
        """Take the peer's parameter out; return its name and the class that the peer must be of, if there are."""
        found = [parameter for parameter in self._rest.values() if self._is_peer(parameter)]
        if not found:
            return None, None
        if not is_given:
            self._refuse(found[0], "nobody in particular causes this event: it has no peer")
        if len(found) > 1:
            self._refuse(found[1], f"the peer is {found[0].name!r} already")
        del self._rest[found[0].name]
        kind = _class_of(found[0])
        return found[0].name, kind if kind in (Connection, RequestPeer) else None

    def _is_peer(self, parameter: inspect.Parameter) -> bool:
        if _is_marked(parameter):
            return False
        if _class_of(parameter) in (Peer, Connection, RequestPeer):
            return True
        if parameter.name != "peer" or parameter.name in self._pattern.parameters:
            return False
        if not _is_open(parameter.annotation):
            self._refuse(parameter, "annotate the peer with Peer or Connection")
        return True

    def take_given(self, name: str | None) -> inspect.Parameter | None:
        """Take out the parameter for what is given, and return it."""
        if name is None:
            return None
        if name in self._pattern.parameters:
            raise ValueError(
                f"{_name(self._function)}: {name!r} is what the handler is given, and a parameter of the channels "
                f"{self._pattern.pattern!r}: rename that one"
            )
        given = self._rest.pop(name, None)
        if given is None:
            raise TypeError(f"{_name(self._function)}: it takes no {name}: add a parameter named {name!r}")
        if _is_marked(given, params.Depends, params.Param):
            self._refuse(given, f"it gets the {name}, and cannot be a dependency too: rename one")
        self._check_resolved(given)
        return given

    def message_type(self, message: inspect.Parameter) -> _MessageType | None:
        """Return how the message is validated, or `None` where it is taken as it is."""
        if message.annotation in (_NO_ANNOTATION, Any):
            return None
        try:
            return _MessageType(message.annotation)
        except (RuntimeError, NameError) as error:  # Pydantic's own are such
            self._refuse(message, f"Pydantic cannot validate {message.annotation}: {error}", error)

    def dependant(self, has_request: bool) -> Dependant:
        """Return what is left as FastAPI reads it."""
        for parameter in self._rest.values():
            self._check_source(parameter)
        try:
            dependant = get_dependant(
                path="".join(f"/{{{name}}}" for name in self._pattern.parameters), call=_stand_in(self._rest)
            )
        except (AssertionError, RuntimeError, NameError) as error:
            fault = str(error) or "FastAPI cannot read one of its parameters"  # some of its assertions say nothing
            raise TypeError(f"{_name(self._function)}: {fault}") from error
        dependant.call = self._function
        for part in dependants(dependant):
            self._check_part(part, has_request)
        return dependant

    def _check_source(self, parameter: inspect.Parameter) -> None:
        if _is_marked(parameter, params.Body):
            self._refuse(parameter, "a channel's event has no body, form or file")
        self._check_resolved(parameter)
        if parameter.name in self._pattern.parameters or _is_marked(parameter):
            return
        kind = _class_of(parameter)
        if not (isinstance(kind, type) and issubclass(kind, _GIVEN_BY_TYPE)):
            # FastAPI would read it from the query string: a slip of the pen, or a `user` that anyone can make up.
            self._refuse(
                parameter,
                f"the channels {self._pattern.pattern!r} have no such parameter, and it does not say where it comes "
                "from: Depends(…), Header(), Query() or Cookie()",
            )

    def _check_resolved(self, parameter: inspect.Parameter) -> None:
        if isinstance(parameter.annotation, str | ForwardRef):
            self._refuse(parameter, f"{parameter.annotation} cannot be looked up: {_LOOK_UP}")

    def _check_part(self, part: Dependant, has_request: bool) -> None:
        where = "" if part.call is self._function else f"dependency {_name(part.call)}: "
        faults = self._faults(part) if has_request else (*self._faults(part), *_faults_without_request(part))
        for name, fault in faults:
            raise TypeError(f"{_name(self._function)}: {where}parameter {name!r}: {fault}")

    def _faults(self, part: Dependant) -> Iterator[tuple[str, str]]:
        for field in part.body_params:
            yield field.name, "a channel's event has no body, form or file"
        for field in part.path_params:
            if field.field_info.validation_alias in (None, field.alias) and field.alias not in self._pattern.parameters:
                yield field.name, f"the channels {self._pattern.pattern!r} have no parameter {field.alias!r}"
        if part.background_tasks_param_name is not None:
            yield part.background_tasks_param_name, "nothing runs background tasks here: await it, or start a task"

    def _refuse(self, parameter: inspect.Parameter, fault: str, cause: Exception | None = None) -> NoReturn:
        raise TypeError(f"{_name(self._function)}: parameter {parameter.name!r}: {fault}") from cause


def _faults_without_request(part: Dependant) -> Iterator[tuple[str, str]]:
    if part.websocket_param_name is not None:
        yield part.websocket_param_name, "this event has no WebSocket: ask for an HTTPConnection"
    for field in (*part.query_params, *part.header_params, *part.cookie_params):
        if field.field_info.is_required():
            yield field.name, "nobody in particular causes this event, so nothing is sent with it: give it a default"


class _MessageType:
    """How a message becomes what a handler's annotation says."""

    __slots__ = ("_adapter", "_is_json", "_is_strict")

    def __init__(self, annotation: Any) -> None:
        self._adapter: TypeAdapter[Any] = TypeAdapter(annotation)
        self._is_strict = raw_types(annotation) is not None or None
        self._is_json = not _has_text(annotation)

    def validate(self, message: object) -> Any:
        try:
            if self._is_json and isinstance(message, str):  # as a client has sent it
                return self._adapter.validate_json(message)
            return self._adapter.validate_python(message, strict=self._is_strict, from_attributes=True)
        except ValidationError as invalid:
            raise invalid_message(invalid) from None


def _has_text(annotation: Any) -> bool:
    """Return whether a `str` can be a value of a type by itself, and not as JSON."""
    bare = bare_annotation(annotation)
    bare = getattr(bare, "__supertype__", bare)  # a NewType's
    if get_origin(bare) in (Union, UnionType):
        return any(map(_has_text, get_args(bare)))
    if get_origin(bare) is Literal:
        return any(isinstance(value, str) for value in get_args(bare))
    return isinstance(bare, type) and issubclass(bare, str | bytes | enum.Enum)


def _has_dependencies(dependant: Dependant, pattern: ChannelPattern) -> bool:
    return any(
        (
            *dependant.dependencies,
            *dependant.query_params,
            *dependant.header_params,
            *dependant.cookie_params,
            dependant.request_param_name,
            dependant.websocket_param_name,
            dependant.http_connection_param_name,
            dependant.response_param_name,
            dependant.security_scopes_param_name,
            # With a choice of names: FastAPI finds the right one.
            *(field for field in dependant.path_params if field.alias not in pattern.parameters),
        )
    )


def dependants(dependant: Dependant) -> Iterator[Dependant]:
    """Yield a dependant and all that it depends on."""
    yield dependant
    for sub in dependant.dependencies:
        yield from dependants(sub)


def _stand_in(parameters: Mapping[str, inspect.Parameter]) -> Callable[..., Any]:
    """Return a function that has these parameters as far as FastAPI can see."""

    def stand_in() -> None: ...

    stand_in.__signature__ = inspect.Signature([*parameters.values()])  # type: ignore[attr-defined]
    return stand_in


def _is_marked(parameter: inspect.Parameter, *kinds: type) -> bool:
    """Return whether a parameter says by a FastAPI marker where it comes from."""
    kinds = kinds or (params.Depends, params.Param, params.Body)
    return any(isinstance(marker, kinds) for marker in (parameter.default, *_metadata(parameter.annotation)))


def _metadata(annotation: Any) -> tuple[Any, ...]:
    return getattr(getattr(annotation, "__value__", annotation), "__metadata__", ())


def _class_of(parameter: inspect.Parameter) -> Any:
    bare = bare_annotation(parameter.annotation)
    return get_origin(bare) or bare


def _is_open(annotation: Any) -> bool:
    """Return whether an annotation says nothing; one whose name cannot be looked up is for type checkers."""
    return annotation in (_NO_ANNOTATION, Any) or isinstance(annotation, str | ForwardRef)


def _callables(function: Callable[..., Any]) -> Iterator[Any]:
    """Yield what may tell of which kind a callable is, as FastAPI looks at it: its method, what it wraps."""
    while isinstance(function, partial):
        function = function.func
    layers: tuple[Any, ...] = (function, inspect.unwrap(function))
    for layer in layers:
        yield layer
        if not inspect.isroutine(layer):
            yield layer.__call__


def _is_async(function: Callable[..., Any]) -> bool:
    return any(map(inspect.iscoroutinefunction, _callables(function)))


def _is_generator(function: Any) -> bool:
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


def _name(function: Any) -> str:
    return getattr(function, "__qualname__", None) or repr(function)


def _denied(error: Any) -> Denied:
    """Return the refusal for an invalid parameter: which it is and why, in the length of a close reason."""
    place, *names = map(str, error["loc"])
    where = ".".join(names if place == "path" and names else (place, *names))
    return Denied(shortened(f"{where}: {unquoting_reason(error)}"), status=_INVALID_PARAMETER_STATUS)


def _request(scope: Scope) -> Request | WebSocket:
    if scope["type"] == "websocket":
        return WebSocket(scope, _no_messages, _no_messages)
    return Request(scope, _no_messages, _no_messages)


async def _no_messages(*_: Any) -> NoReturn:
    raise RuntimeError("a channel's handler cannot send or receive by its request or WebSocket, only read its scope")
