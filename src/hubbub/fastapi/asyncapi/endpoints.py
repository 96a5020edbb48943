"""The WebSocket endpoints of an application, as its routes declare them."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from inspect import cleandoc
from typing import Any

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIWebSocketRoute
from starlette.convertors import Convertor
from starlette.routing import Host, Mount, compile_path

from ..dependency import ConnectionDependency
from ..typed import UNTYPED, MessageTypes

__all__ = ("Endpoint", "endpoints", "parts")


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
        return cleandoc(self.dependant.call.__doc__ or "").partition("\f")[0].strip()

    @property
    def connection(self) -> ConnectionDependency | None:
        """The dependency that gives it its connection, the one with settings of its own first; or `None`."""
        found = [known for part in parts(self.dependant) if (known := _connection_of(part)) is not None]
        return next((one for one in found if not one.is_default), found[0] if found else None)

    def types(self) -> MessageTypes:
        """Return what its `Connection[In, Out]` declares.

        Raises:
            TypeError: Two places declare different types.
        """
        connection = self.connection
        return UNTYPED if connection is None else connection.types_of(self.dependant)


def parts(dependant: Dependant) -> Iterator[Dependant]:
    """Yield a dependant and all that it depends on."""
    yield dependant
    for sub in dependant.dependencies:
        yield from parts(sub)


def _connection_of(part: Dependant) -> ConnectionDependency | None:
    dependency = getattr(part.call, "_endpoint", part.call)  # a hub has one of its own
    return dependency if isinstance(dependency, ConnectionDependency) else None


def endpoints(routes: Iterable[Any], prefix: str = "", tags: tuple[str, ...] = ()) -> Iterator[Endpoint]:
    """Yield the WebSocket endpoints of FastAPI among routes, those of included routers and mounted applications too.

    Routes of plain Starlette are left out: they declare neither parameters nor messages.

    Args:
        routes: The routes of an application.
        prefix: The path at which the application is mounted.
        tags: The tags of the router that the routes are from.
    """
    for route in routes:
        if isinstance(route, APIWebSocketRoute):
            yield _endpoint(route, prefix, tags)
        elif isinstance(route, Mount | Host):
            yield from endpoints(route.routes or (), prefix + getattr(route, "path", ""))
        elif hasattr(route, "effective_candidates"):  # FastAPI keeps an included router as a route of its own
            yield from _included(route, prefix)


def _included(router: Any, prefix: str) -> Iterator[Endpoint]:
    """Yield the endpoints of an included router; older versions of FastAPI copy its routes and forget its tags."""
    context, original = router.include_context, router.original_router
    if not (context.include_in_schema and original.include_in_schema):
        return
    tags = tuple(map(_tag, dict.fromkeys((*context.tags, *original.tags))))
    candidates = (
        getattr(candidate, "starlette_route", None) or candidate for candidate in router.effective_candidates()
    )
    yield from endpoints(candidates, prefix, tags)


def _tag(tag: str | enum.Enum) -> str:
    return str(tag.value) if isinstance(tag, enum.Enum) else tag


def _endpoint(route: APIWebSocketRoute, prefix: str, tags: tuple[str, ...]) -> Endpoint:
    _, address, convertors = compile_path(prefix + route.path)
    return Endpoint(route.name, address, convertors, route.dependant, tags)
