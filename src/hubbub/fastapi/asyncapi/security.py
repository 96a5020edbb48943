"""Security schemes: from FastAPI's, which are for OpenAPI, to those of AsyncAPI 3.0 ("Security Scheme Object")."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from fastapi.dependencies.models import Dependant
from fastapi.security.base import SecurityBase
from pydantic import BaseModel

from .schemas import JsonObject

__all__ = ("Requirement", "is_absolute", "requirements_of")


@dataclass(frozen=True)
class Requirement:
    """A security scheme that an endpoint asks for.

    Args:
        name: What FastAPI calls it, which may be the name of another one too.
        scheme: How AsyncAPI describes it.
        scopes: The scopes that are asked for.
    """

    name: str
    scheme: JsonObject
    scopes: tuple[str, ...]


def requirements_of(dependant: Dependant) -> list[Requirement]:
    """Return the security schemes of an endpoint and its dependencies, each once, with all scopes."""
    scopes: dict[SecurityBase, dict[str, None]] = {}
    for scheme, asked in _schemes(dependant, ()):
        scopes.setdefault(scheme, {}).update(dict.fromkeys(asked))
    return [
        Requirement(_name(scheme), _described(scheme), (*asked,))
        for scheme, asked in scopes.items()
        if isinstance(getattr(scheme, "model", None), BaseModel)  # one of the application's own may have none
    ]


def _name(scheme: SecurityBase) -> str:
    return str(getattr(scheme, "scheme_name", None) or type(scheme).__name__)


def _schemes(dependant: Dependant, scopes: tuple[str, ...]) -> Iterator[tuple[SecurityBase, tuple[str, ...]]]:
    for sub in dependant.dependencies:
        asked = (*scopes, *(sub.own_oauth_scopes or ()))
        call: Any = sub.call and inspect.unwrap(sub.call)
        if isinstance(call, SecurityBase):
            yield call, asked
        yield from _schemes(sub, asked)


def _described(scheme: SecurityBase) -> JsonObject:
    model = scheme.model.model_dump(mode="json", by_alias=True, exclude_none=True)
    match model["type"]:
        case "apiKey":
            return {**model, "type": "httpApiKey"}
        case "oauth2" if all(map(is_absolute, _addresses(model["flows"]))):
            flows = {name: _flow(flow) for name, flow in model["flows"].items()}
            return {**model, "flows": flows}
        case "openIdConnect" if is_absolute(model["openIdConnectUrl"]):
            return model
        case "oauth2" | "openIdConnect":
            return _bearer(model)
        case _:
            return model


def _flow(flow: JsonObject) -> JsonObject:
    return {**{key: value for key, value in flow.items() if key != "scopes"}, "availableScopes": flow.get("scopes", {})}


def _bearer(model: JsonObject) -> JsonObject:
    """Describe a scheme whose addresses are relative, which AsyncAPI does not allow, by what the server looks at."""
    addresses = [*_addresses(model.get("flows", {}))] or [model.get("openIdConnectUrl", "")]
    description = model.get("description") or f"A token from {', '.join(addresses)}"
    return {"type": "http", "scheme": "bearer", "description": description}


def _addresses(flows: JsonObject) -> Iterator[str]:
    for flow in flows.values():
        yield from (value for key, value in flow.items() if key.endswith("Url"))


def is_absolute(address: str) -> bool:
    """Return whether an address may stand in the document: AsyncAPI has no relative ones."""
    return bool(urlsplit(address).scheme)
