/** Tells which message of the document something is that came over a connection. */
import { isAlwaysThere } from "./example.js";
import { faultsOf } from "./validate.js";

const DEEPEST = 3;

/**
 * A function from what came, text or bytes, to `{name, value}`: the message's title if it is known, and the value if it
 * is JSON. Fixed values (such as `"type": "say"`) decide; among messages without any, the first whose schema fits.
 */
export function recogniser(schemas, messages) {
  const known = messages
    .filter((message) => message.format === "json")
    .map((message) => ({ ...message, marks: marksOf(schemas, message.schema) }));
  const marked = known.filter(({ marks }) => marks.length).sort((one, other) => other.marks.length - one.marks.length);
  const unmarked = known.filter(({ marks }) => marks.length === 0);
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
      unmarked.find(({ schema }) => faultsOf(schemas, schema, value).length === 0);
    return { name: found?.title ?? named("text"), value };
  };
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
