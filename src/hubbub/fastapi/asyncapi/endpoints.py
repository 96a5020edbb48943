"""The WebSocket endpoints of an application, as its routes declare them."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from inspect import cleandoc
from typing import Any

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIWebSocketRoute
from starlette.convertors import Convertor
from starlette.routing import Mount, compile_path

from ..dependency import ConnectionDependency
from ..handlers import dependants
from ..typed import UNTYPED, MessageTypes

__all__ = ("Endpoint", "endpoints")


@dataclass(frozen=True)
class Endpoint:
    """One WebSocket route.

    Args:
        name: The route's name.
        address: Its path below the application, mounts included, with parameters as `{name}`.
        convertors: What Starlette reads each parameter of the path with.
        dependant: Its parameters and dependencies, as FastAPI has read them.
        tags: Those of the routers that it was included with.
    """

    name: str
    address: str
    convertors: Mapping[str, Convertor[Any]]
    dependant: Dependant
    tags: tuple[str, ...]

    @property
    def documentation(self) -> str:
        """The docstring of the function, as far as it is for readers: up to a form feed, as in FastAPI."""
        function = self.dependant.call
        while isinstance(function, partial):  # which has a docstring of its own
            function = function.func
        text = function.__doc__ if isinstance(function.__doc__, str) else ""
        return cleandoc(text).partition("\f")[0].strip()

    @property
    def connection(self) -> ConnectionDependency | None:
        """The dependency that gives it its connection, the one with settings of its own first; or `None`."""
        found = [known for part in dependants(self.dependant) if (known := _connection_of(part)) is not None]
        return next((one for one in found if not one.is_default), found[0] if found else None)

    def types(self) -> MessageTypes:
        """Return what its `Connection[In, Out]` declares.

        Raises:
            TypeError: Two places declare different types.
        """
        connection = self.connection
        return UNTYPED if connection is None else connection.types_of(self.dependant)


def _connection_of(part: Dependant) -> ConnectionDependency | None:
    dependency = getattr(part.call, "_endpoint", part.call)  # a hub has one of its own
    return dependency if isinstance(dependency, ConnectionDependency) else None


@dataclass(frozen=True)
class _Mounted:
    """Where routes are: the path up to them, what reads its parameters, and the applications that are mounted there."""

    path: str = ""
    convertors: Mapping[str, Convertor[Any]] = field(default_factory=dict)
    apps: tuple[Any, ...] = ()

    def below(self, path: str, *apps: Any) -> _Mounted:
        _, own, convertors = compile_path(path)
        return _Mounted(self.path + own, {**self.convertors, **convertors}, (*self.apps, *apps))


def endpoints(routes: Iterable[Any]) -> Iterator[Endpoint]:
    """Yield the WebSocket endpoints of FastAPI among routes, those of included routers and mounted applications too.

    Routes of plain Starlette are left out: they declare neither parameters nor messages. So are those of another host.

    Args:
        routes: The routes of an application.
    """
    yield from _endpoints(routes, _Mounted(), ())


def _endpoints(routes: Iterable[Any], place: _Mounted, tags: tuple[str, ...]) -> Iterator[Endpoint]:
    for route in routes:
        if isinstance(route, APIWebSocketRoute):
            own = place.below(route.path)
            yield Endpoint(route.name, own.path or "/", own.convertors, route.dependant, tags)
        elif isinstance(route, Mount):
            if route.app not in place.apps:  # one may be mounted in itself
                yield from _endpoints(route.routes or (), place.below(route.path, route.app), ())
        elif hasattr(route, "effective_candidates"):  # FastAPI keeps an included router as a route of its own
            yield from _included(route, place)


def _included(router: Any, place: _Mounted) -> Iterator[Endpoint]:
    """Yield the endpoints of an included router; older versions of FastAPI copy its routes and forget its tags."""
    context, original = router.include_context, router.original_router
    if not (context.include_in_schema and original.include_in_schema):
        return
    tags = tuple(map(_tag, dict.fromkeys((*context.tags, *original.tags))))
    routes = (getattr(one, "starlette_route", None) or one for one in router.effective_candidates())
    yield from _endpoints(routes, place, tags)


def _tag(tag: str | enum.Enum) -> str:
    return str(tag.value) if isinstance(tag, enum.Enum) else tag
