"""JSON Schemas as types of TypeScript."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .names import quoted

__all__ = ("Types", "comment", "is_plain_object", "literal", "union")

_PREFIX = "#/components/schemas/"
_PRIMITIVES = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}
_BESIDE = frozenset({"$ref", "allOf", "anyOf", "oneOf"})
_NESTED = re.compile(r'"(?:[^"\\]|\\.)*"|[{(\[][^{}()\[\]"]*[})\]]')
_OWN = frozenset({"const", "enum", "properties", "items", "prefixItems"})


class Types:
    """Writes the schemas of a document as types.

    Args:
        schemas: All that have a key.
        names: What the type of each is named, by its key.
    """

    def __init__(self, schemas: Mapping[str, Any], names: Mapping[str, str]) -> None:
        self._schemas = schemas
        self._names = names

    def resolve(self, schema: Any) -> Any:
        """Return the schema that a schema refers to, or itself if it refers to none."""
        seen: set[str] = set()
        while (key := _key(schema)) is not None and key in self._schemas.keys() - seen:
            seen.add(key)
            schema = self._schemas[key]
        return schema

    def declaration(self, name: str, schema: Any) -> str:
        """Return the declaration of an exported type."""
        head = comment(_notes(schema)) + "export "
        if not is_plain_object(schema):
            return f"{head}type {name} = {self.expression(schema)};\n"
        members = "".join(f"{comment(notes, '  ')}  {member};\n" for member, notes in self._members(schema))
        return f"{head}interface {name} {{\n{members}}}\n"

    def expression(self, schema: Any) -> str:
        """Return a schema as a type."""
        return union(self.alternatives(schema))

    def alternatives(self, schema: Any) -> list[str]:
        """Return the types of which one is due: more than one for a union."""
        if not isinstance(schema, Mapping):
            return ["never"] if schema is False else ["unknown"]
        conditions = [*self._conditions(schema)]
        if len(conditions) == 1:
            return conditions[0]
        return [" & ".join(_grouped(union(one)) for one in conditions if one != ["unknown"]) or "unknown"]

    def _conditions(self, schema: Mapping[str, Any]) -> Iterator[list[str]]:
        """Yield the alternatives of everything that must hold at once."""
        if "$ref" in schema:
            yield [self._names.get(_key(schema) or "", "unknown")]
        for part in schema.get("allOf", ()):
            yield self.alternatives(part)
        for word in ("anyOf", "oneOf"):
            if word in schema:
                yield [text for choice in schema[word] for text in self.alternatives(choice)]
        if not schema.keys() & _BESIDE or schema.keys() & _OWN:
            yield self._own(schema)

    def _own(self, schema: Mapping[str, Any]) -> list[str]:
        if "const" in schema:
            return [literal(schema["const"])]
        if "enum" in schema:
            return [literal(value) for value in schema["enum"]]
        kinds = schema.get("type", "object" if "properties" in schema else "any")
        return [self._of_kind(kind, schema) for kind in ([kinds] if isinstance(kinds, str) else kinds)]

    def _of_kind(self, kind: str, schema: Mapping[str, Any]) -> str:
        match kind:
            case "array":
                return self._array(schema)
            case "object":
                return f"{{ {'; '.join(member for member, _ in self._members(schema))} }}"
            case _:
                return _PRIMITIVES.get(kind, "unknown")

    def _array(self, schema: Mapping[str, Any]) -> str:
        rest = f"{_grouped(self.expression(schema.get('items', True)))}[]"
        if "prefixItems" not in schema:
            return rest
        first, least = schema["prefixItems"], schema.get("minItems", 0)
        items = [self.expression(item) for item in first]
        items[least:] = [f"{_grouped(item)}?" for item in items[least:]]
        if schema.get("items") is not False and schema.get("maxItems") != len(first):
            items.append(f"...{rest}")
        return f"[{', '.join(items)}]"

    def _members(self, schema: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
        """Yield each member of an object, and what is to be said of it."""
        required = schema.get("required", ())
        for name, value in schema.get("properties", {}).items():
            prefix = "readonly " if isinstance(value, Mapping) and value.get("readOnly") else ""
            suffix = "" if name in required else "?"
            yield f"{prefix}{quoted(name, literal(name))}{suffix}: {self.expression(value)}", _notes(value)
        others = [*schema.get("patternProperties", {}).values()]
        others += [schema["additionalProperties"]] if schema.get("additionalProperties") else []
        if schema.get("properties"):
            # TypeScript holds the properties that have names against what it says of all, so that can only be this.
            yield from [("[key: string]: unknown", [])] if others else ()
        else:
            yield self._entries(schema, others), []

    def _entries(self, schema: Mapping[str, Any], values: list[Any]) -> str:
        """Return the only member of an object whose properties have no names in the schema."""
        if not values:
            is_empty = "properties" in schema or schema.get("additionalProperties") is False
            return f"[key: string]: {'never' if is_empty else 'unknown'}"
        keys, value = schema.get("propertyNames"), self.expression({"anyOf": values})
        if "enum" in (resolved := self.resolve(keys) or {}) or "const" in resolved:
            return f"[key in {self.expression(keys)}]?: {value}"
        return f"[key: string]: {value}"


def is_plain_object(schema: Any) -> bool:
    """Return whether a schema is that of an object with properties, and no more."""
    beside = _BESIDE | {"const", "enum"}
    return isinstance(schema, Mapping) and bool(schema.get("properties")) and not schema.keys() & beside


def union(texts: Iterable[str]) -> str:
    """Return the type that takes each of these types."""
    distinct = dict.fromkeys(texts)
    return "unknown" if "unknown" in distinct else " | ".join(distinct) or "never"


def literal(value: Any) -> str:
    """Return a value of JSON as the type that takes only this."""
    match value:
        case list():
            return f"[{', '.join(map(literal, value))}]"
        case dict():
            return f"{{ {'; '.join(f'{literal(name)}: {literal(item)}' for name, item in value.items())} }}"
        case _:
            return json.dumps(value)


def comment(paragraphs: Iterable[str], indent: str = "") -> str:
    """Return paragraphs as a comment before a declaration; nothing where there are none."""
    text = "\n\n".join(filter(None, paragraphs)).replace("\n\n@", "\n@").replace("*/", "*\\/")
    lines = text.splitlines()
    if not lines:
        return ""
    if len(lines) == 1:
        return f"{indent}/** {lines[0]} */\n"
    return f"{indent}/**\n" + "".join(f"{indent} * {line}".rstrip() + "\n" for line in lines) + f"{indent} */\n"


def _notes(schema: Any) -> list[str]:
    """Return what a comment says of a schema."""
    if not isinstance(schema, Mapping):
        return []
    notes = [schema.get("description", "").strip()]
    if schema.get("deprecated"):
        notes.append("@deprecated")
    if "format" in schema:
        notes.append(f"@format {schema['format']}")
    if schema.get("default") is not None and "const" not in schema:
        notes.append(f"@default {json.dumps(schema['default'])}")
    return [note for note in notes if note]


def _grouped(text: str) -> str:
    """Return a type so that something can stand behind it."""
    outermost, rest = "", text
    while rest != outermost:
        outermost, rest = rest, _NESTED.sub("", rest)
    return f"({text})" if " | " in rest or " & " in rest else text


def _key(schema: Any) -> str | None:
    reference = schema.get("$ref") if isinstance(schema, Mapping) else None
    return reference.removeprefix(_PREFIX) if isinstance(reference, str) else None
