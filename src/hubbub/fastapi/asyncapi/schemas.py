"""JSON Schemas from Pydantic, for all types of a document at once, so that what they share stands once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from math import isfinite
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import RootModel, TypeAdapter
from pydantic.errors import PydanticUserError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema, to_jsonable_python
from typing_extensions import TypeAliasType

from ..envelope import Enveloped

__all__ = (
    "JsonObject",
    "Mode",
    "NoSchema",
    "SchemaKey",
    "Schemas",
    "as_key",
    "definition_name",
    "members",
    "numbered",
    "plain",
    "put",
)

JsonObject = dict[str, Any]
Mode = Literal["validation", "serialization"]
"""What a client sends is validated, what it receives is serialized: the schemas may differ."""

SchemaKey = tuple[int, Mode]
"""What a schema is asked for with, once all are made."""

_PREFIX = "#/components/schemas/"
_NOT_IN_A_KEY = re.compile(r"[^\w.-]+", re.ASCII)


class NoSchema(Exception):
    """A type cannot become a JSON Schema.

    Args:
        reason: Why.
        is_unresolved: Whether that is a name that could not be looked up.
    """

    def __init__(self, reason: str, *, is_unresolved: bool = False) -> None:
        super().__init__(reason)
        self.is_unresolved = is_unresolved


class Schemas:
    """The schemas of a document. All types are added first; then each has its schema."""

    def __init__(self) -> None:
        self._adapters: list[tuple[int, Mode, TypeAdapter[Any]]] = []
        self._schemas: Mapping[SchemaKey, JsonSchemaValue] = {}
        self._inlined: set[str] = set()  # types that are equal have one name
        self.definitions: dict[str, JsonObject] = {}

    def add(self, annotation: Any, mode: Mode) -> SchemaKey:
        """Add a type, and return the key of its schema.

        Raises:
            NoSchema: It has none.
        """
        key = (len(self._adapters), mode)
        self._adapters.append((*key, self.adapter_of(annotation, mode)))
        return key

    def adapter_of(self, annotation: Any, mode: Mode) -> TypeAdapter[Any]:
        """Return what Pydantic makes of a type, if it has a schema.

        Raises:
            NoSchema: It has none.
        """
        try:
            adapter = TypeAdapter(annotation)
            # Twice, so that it is referred to, as it will be: what is in it is compared then.
            TypeAdapter.json_schemas([(0, mode, adapter), (1, mode, adapter)], schema_generator=_Generator)
        except Exception as error:  # Pydantic's own, a name that is not there, or what an application's type raises
            raise NoSchema(_reason(error), is_unresolved=_is_unresolved(error)) from error
        return adapter

    def resolve(self) -> None:
        """Make the schemas of all types that were added, and name what they refer to."""
        schemas, rest = TypeAdapter.json_schemas(
            self._adapters, ref_template=_PREFIX + "{model}", schema_generator=_Generator
        )
        self._schemas = schemas
        self.definitions = rest.get("$defs", {})
        for schema in (*schemas.values(), *self.definitions.values()):
            self._require_tags(schema)

    def __getitem__(self, key: SchemaKey) -> JsonObject:
        """Return the schema of a type, or a reference to it."""
        return self._schemas[key]

    def _require_tags(self, schema: Any) -> None:
        """Make the tag of a discriminated union required in its members, as it is: a default does not replace it."""
        if isinstance(schema, list):
            for one in schema:
                self._require_tags(one)
        if not isinstance(schema, dict):
            return
        tag = schema.get("discriminator")
        if isinstance(tag, dict) and isinstance(tag.get("propertyName"), str):  # the application's own, as in OpenAPI
            schema["discriminator"] = tag = tag["propertyName"]
        for member in schema.get("oneOf", ()) if isinstance(tag, str) else ():
            target = self.definitions.get(definition_name(member) or "", {})
            if tag in target.get("properties", {}) and tag not in target.setdefault("required", []):
                target["required"].insert(0, tag)
        for value in schema.values():
            self._require_tags(value)

    def inlined(self, key: SchemaKey) -> JsonObject:
        """Return the schema of a type in full; its name is no part of the document."""
        name = definition_name(self[key])
        if name is None:
            return self[key]
        self._inlined.add(name)
        return self.definitions[name]

    def named(self) -> dict[str, JsonObject]:
        """Return the schemas that the document names, in the order of their names."""
        return {name: schema for name, schema in sorted(self.definitions.items()) if name not in self._inlined}


def _reason(error: Exception) -> str:
    """Return the first line of what was raised; but for Pydantic's own, which explain themselves, with its class."""
    line = str(error).partition("\n")[0]
    name = type(error).__name__
    return line if isinstance(error, PydanticUserError) else f"{name}: {line}" if line else name


def _is_unresolved(error: Exception) -> bool:
    return isinstance(error, NameError) or getattr(error, "code", "") in (
        "class-not-fully-defined",
        "undefined-annotation",
    )


def plain(value: Any) -> Any:
    """Return a value as JSON has it, whatever an application has put into a schema.

    A number that is not finite is left out, since JSON has no name for it; what has no JSON form is a text.
    """
    match value:
        case dict():
            pairs = ((str(key), plain(one)) for key, one in value.items())
            return {key: one for key, one in pairs if not _is_endless(one)}
        case list() | tuple() | set() | frozenset():
            return [one for one in map(plain, value) if not _is_endless(one)]
        case str():
            return value.encode("utf-8", "replace").decode()
        case _:
            return to_jsonable_python(value, fallback=str)


def _is_endless(value: Any) -> bool:
    return isinstance(value, float) and not isfinite(value)


def put(components: dict[str, JsonObject], wanted: str, made: Callable[[str], JsonObject]) -> str:
    """Put something among the components, if it is not there yet, and return its name, which no other one has.

    Args:
        components: Where it belongs.
        wanted: The name that it gets if that is free; else it gets a number.
        made: Returns it, for the name that it gets.
    """
    return next(name for name in numbered(wanted) if components.setdefault(name, made(name)) == made(name))


def numbered(name: str) -> Iterator[str]:
    """Yield a name, and then the same with a number behind it, from 2 on: the first that is free is to be taken."""
    yield name
    yield from (f"{name}_{number}" for number in count(2))


def as_key(name: str, otherwise: str) -> str:
    """Return a name as the key of a component or a channel, which has letters, digits, `_`, `.` and `-` only.

    Args:
        name: Any text.
        otherwise: What stands for one of which nothing is left.
    """
    return _NOT_IN_A_KEY.sub("_", name).strip("_") or otherwise


class _Generator(GenerateJsonSchema):
    """Pydantic's schemas with the discriminator as AsyncAPI has it: the name of the property alone."""

    def emit_warning(self, kind: str, detail: str) -> None:
        """Say nothing of a default that is no JSON, which is left out, nor of a union's member without a schema."""

    def field_is_required(self, field: Any, total: bool) -> bool:
        """Return whether a field is always there; in what is sent those with a default are."""
        if self.mode == "serialization" and field["type"] != "typed-dict-field":
            return not (field.get("serialization_exclude") or field.get("serialization_exclude_if"))
        return super().field_is_required(field, total)

    def tagged_union_schema(self, schema: core_schema.TaggedUnionSchema) -> JsonSchemaValue:
        json_schema = super().tagged_union_schema(schema)
        if "discriminator" in json_schema:
            json_schema["discriminator"] = json_schema["discriminator"]["propertyName"]
        return json_schema


def definition_name(schema: JsonObject) -> str | None:
    """Return the name of the definition that a schema stands for, if it is nothing else."""
    target = schema.get("$ref") if schema.keys() == {"$ref"} else None
    return None if target is None else target.removeprefix(_PREFIX)


def members(annotation: Any, outer: tuple[Any, ...] = ()) -> Iterator[Any]:
    """Yield the types of which a union consists, itself for anything else.

    Aliases, `Annotated`, root models and unions in unions are looked into; so is `Enveloped[A | B]`, which is
    `Enveloped[A]` or `Enveloped[B]`.
    """
    union = None if annotation in outer else _union(annotation)  # a type may be a member of itself
    if union is not None:
        for member in get_args(union):
            yield from members(member, (*outer, annotation))
        return
    texts = [value for value in get_args(annotation) if isinstance(value, str)]
    if get_origin(annotation) is Literal and 0 < len(texts) < len(get_args(annotation)):
        yield Literal[tuple(texts)]  # which may be sent in another way than the others
        yield Literal[tuple(value for value in get_args(annotation) if not isinstance(value, str))]
    elif get_origin(annotation) is Enveloped:
        yield from (Enveloped[member] for member in members(get_args(annotation)[0]))  # type: ignore[valid-type]
    else:
        yield annotation


def _union(annotation: Any) -> Any:
    """Return the union that an annotation stands for, if it does."""
    while True:
        origin = get_origin(annotation)
        if origin in (Union, UnionType):
            return annotation
        if origin is Annotated:
            annotation = get_args(annotation)[0]
        elif isinstance(annotation, TypeAliasType):
            annotation = annotation.__value__
        elif isinstance(origin, TypeAliasType):
            annotation = origin.__value__[get_args(annotation)]
        elif isinstance(annotation, type) and issubclass(annotation, RootModel) and "root" in annotation.model_fields:
            annotation = annotation.model_fields["root"].annotation
        else:
            return None
