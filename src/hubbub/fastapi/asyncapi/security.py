"""Security schemes: from FastAPI's, which are for OpenAPI, to those of AsyncAPI 3.0 ("Security Scheme Object")."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from fastapi.dependencies.models import Dependant
from fastapi.security.base import SecurityBase

from .schemas import JsonObject

__all__ = ("security_of",)


def security_of(dependant: Dependant) -> dict[str, JsonObject]:
    """Return the schemes of an endpoint by name, each with the scopes that the endpoint asks for."""
    schemes: dict[str, JsonObject] = {}
    scopes: dict[str, list[str]] = {}
    for scheme, own in _schemes(dependant, ()):
        schemes[scheme.scheme_name] = _described(scheme)
        scopes.setdefault(scheme.scheme_name, []).extend(own)
    for name, asked in scopes.items():
        if asked and "flows" in schemes[name]:
            schemes[name]["scopes"] = [*dict.fromkeys(asked)]
    return schemes


def _schemes(dependant: Dependant, scopes: tuple[str, ...]) -> Iterator[tuple[SecurityBase, tuple[str, ...]]]:
    for sub in dependant.dependencies:
        # The second is the name in FastAPI before 0.121.
        own = getattr(sub, "own_oauth_scopes", None) or getattr(sub, "security_scopes", None) or ()
        asked = (*scopes, *own)
        call: Any = sub.call and inspect.unwrap(sub.call)
        if isinstance(call, SecurityBase):
            yield call, asked
        yield from _schemes(sub, asked)


def _described(scheme: SecurityBase) -> JsonObject:
    model = scheme.model.model_dump(mode="json", by_alias=True, exclude_none=True)
    match model["type"]:
        case "apiKey":
            return {**model, "type": "httpApiKey"}
        case "oauth2" if all(map(_is_absolute, _addresses(model["flows"]))):
            flows = {name: _flow(flow) for name, flow in model["flows"].items()}
            return {**model, "flows": flows}
        case "openIdConnect" if _is_absolute(model["openIdConnectUrl"]):
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


def _is_absolute(address: str) -> bool:
    return bool(urlsplit(address).scheme)
