"""What a handshake carries beside its path: query, headers and cookies, each as one object with a schema."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from typing import Any, Literal, get_args

from fastapi import params
from fastapi.dependencies.models import Dependant
from pydantic import AliasChoices, BaseModel, ConfigDict, Json, create_model
from pydantic.fields import FieldInfo
from starlette.convertors import Convertor, FloatConvertor, IntegerConvertor, PathConvertor, UUIDConvertor

from ..handlers import dependants
from .schemas import JsonObject

__all__ = ("Fields", "Place", "fields_of", "object_of", "schema_of_convertor", "takes_slashes")

Place = Literal["path", "query", "header", "cookie"]

Fields = dict[str, tuple[Any, FieldInfo]]
"""Parameters by name, each with its annotation and its field."""


def fields_of(dependant: Dependant, place: Place) -> Fields:
    """Return the parameters of an endpoint and its dependencies in one place: annotation and field by name."""
    found: Fields = {}
    for part in dependants(dependant):
        for one in getattr(part, f"{place}_params"):
            for name, field in _named(one):
                if name not in found or field[1].is_required():  # one that must have it is enough
                    found[name] = field
    return found


def _named(field: Any) -> Iterator[tuple[str, tuple[Any, FieldInfo]]]:
    info: FieldInfo = field.field_info
    if not getattr(info, "include_in_schema", True):
        return
    model = None if any(map(_is_json, info.metadata)) else _model_of(info.annotation)
    if model is None:
        yield _alias(info, field.alias), (info.annotation, info)
        return
    hyphens = isinstance(info, params.Header) and info.convert_underscores
    for name, inner in model.model_fields.items():
        if not info.is_required():  # then none of them is
            inner = copy(inner)
            inner.default = None if inner.is_required() else inner.default
        yield _alias(inner, name.replace("_", "-") if hyphens else name), (inner.annotation, inner)


def _model_of(annotation: Any) -> type[BaseModel] | None:
    """Return the model whose fields are the parameters, as FastAPI has it for queries, headers and cookies."""
    for kind in (annotation, *(kind for kind in get_args(annotation) if kind is not type(None))):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _is_json(marker: object) -> bool:
    """Return whether a marker says that a text has JSON in it."""
    return marker is Json or type(marker) is Json


def _alias(info: FieldInfo, otherwise: str) -> str:
    alias = info.validation_alias or info.alias
    if isinstance(alias, AliasChoices):
        alias = next((choice for choice in alias.choices if isinstance(choice, str)), None)
    return alias if isinstance(alias, str) else otherwise


def object_of(fields: Fields) -> type[BaseModel]:
    """Return a model with these fields, of which the schema is wanted."""
    definitions: dict[str, Any] = {}
    for number, (name, (annotation, info)) in enumerate(fields.items()):
        field = copy(info)
        field.alias = field.validation_alias = field.serialization_alias = name
        definitions[f"field_{number}"] = (annotation, field)
    return create_model("HandshakePart", __config__=ConfigDict(arbitrary_types_allowed=True), **definitions)


def schema_of_convertor(convertor: Convertor[Any]) -> JsonObject:
    """Return the schema of a path's parameter that no function asks for."""
    match convertor:
        case IntegerConvertor():
            return {"type": "integer", "minimum": 0}
        case FloatConvertor():
            return {"type": "number", "minimum": 0}
        case UUIDConvertor():
            return {"type": "string", "format": "uuid"}
        case _:
            return {"type": "string", "minLength": 0 if isinstance(convertor, PathConvertor) else 1}


def takes_slashes(convertor: Convertor[Any]) -> bool:
    """Return whether a parameter of a path may contain slashes."""
    return isinstance(convertor, PathConvertor)
