/** Tells which message of the document something is that came over a connection. */
import { isAlwaysThere } from "./example.js";
import { isObject, same } from "./validate.js";

const DEEPEST = 3;

/**
 * A function from what came, text or bytes, to `{name, value}`: the message's title if it is known, and the value if it
 * is JSON. Fixed values (such as `"type": "say"`) decide; among messages without any, the first that is alike, one that
 * may be anything last.
 */
export function recogniser(schemas, messages) {
  const known = messages
    .filter((message) => message.format === "json")
    .map((message) => ({ ...message, marks: marksOf(schemas, message.schema) }));
  const marked = known.filter(({ marks }) => marks.length).sort((one, other) => other.marks.length - one.marks.length);
  const isAny = ({ schema }) => schemas.kind(schema) === "any";
  const unmarked = known.filter(({ marks }) => marks.length === 0).sort((one, other) => isAny(one) - isAny(other));
  const named = (format) => messages.find((message) => message.format === format)?.title ?? "";

  return (data) => {
    if (typeof data !== "string") return { name: named("binary") };
    let value;
    try {
      value = JSON.parse(data);
    } catch {
      return { name: named("text") };
    }
    const found =
      marked.find(({ marks }) => marks.every(([path, mark]) => at(value, path) === mark)) ??
      unmarked.find(({ schema }) => isAlike(schemas, schema, value));
    return { name: found?.title ?? named("text"), value };
  };
}

/**
 * Whether a value has the types of a schema, and what it requires.
 *
 * No pattern is tried: what somebody else has sent may be such that one takes for ever.
 */
function isAlike(schemas, schema, value, depth = 0) {
  if (depth > DEEPEST) return true;
  const inner = (part, one) => isAlike(schemas, part, one, depth + 1);
  const { properties = {}, required = [], additionalProperties, items = {}, ...resolved } = schemas.resolve(schema);
  const kind = schemas.kind(schema);
  switch (kind) {
    case "const":
      return same(resolved.const, value);
    case "enum":
      return resolved.enum.some((one) => same(one, value));
    case "union":
      return schemas.alternatives(schema).some((choice) => inner(choice, value));
    case "object":
    case "map":
      return (
        isObject(value) &&
        required.every((name) => Object.hasOwn(value, name)) &&
        Object.entries(value).every(([name, one]) =>
          Object.hasOwn(properties, name)
            ? inner(properties[name], one)
            : additionalProperties !== false && inner(additionalProperties, one),
        )
      );
    case "array":
      return Array.isArray(value) && value.every((one, at) => inner(resolved.prefixItems?.[at] ?? items, one));
    case "any":
      return resolved.type !== "object" || isObject(value);
    case "integer":
      return Number.isInteger(value);
    default:
      return kind === (value === null ? "null" : typeof value);
  }
}

/** The fixed values that are always there, each with the path to it. */
export function marksOf(schemas, schema, path = []) {
  const resolved = schemas.resolve(schema);
  if ("const" in resolved) return [[path, resolved.const]];
  if (path.length === DEEPEST || schemas.kind(schema) !== "object") return [];
  return Object.entries(resolved.properties)
    .filter(([name, inner]) => isAlwaysThere(schemas, inner, resolved.required?.includes(name)))
    .flatMap(([name, inner]) => marksOf(schemas, inner, [...path, name]));
}

function at(value, path) {
  for (const name of path) {
    if (value === null || typeof value !== "object" || !Object.hasOwn(value, name)) return undefined;
    value = value[name];
  }
  return value;
}
