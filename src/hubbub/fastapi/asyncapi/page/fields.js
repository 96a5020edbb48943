/** A schema as a list of fields to read. What is nested opens on demand: recursive schemas have no end to reach. */
import { element, inline } from "./element.js";

/** The fields of a message, or its one line if it is not an object. */
export function schemaView(schemas, schema) {
  const kind = schemas.kind(schema);
  if (kind === "object") return fieldList(schemas, schema);
  return element("ul.schema", fieldItem(schemas, "", schema, true));
}

function fieldList(schemas, schema) {
  const { properties, required = [], additionalProperties } = schemas.resolve(schema);
  const items = Object.entries(properties).map(([name, inner]) =>
    fieldItem(schemas, name, inner, required.includes(name)),
  );
  if (additionalProperties && additionalProperties !== true)
    items.push(fieldItem(schemas, "any other", additionalProperties, false));
  return element("ul.schema", items);
}

function fieldItem(schemas, name, schema, required) {
  const resolved = schemas.resolve(schema);
  const isFixed = "const" in resolved;
  const words = schemas.constraints(schema);
  const line = element(
    "span.field-line",
    name && element("code.name", name),
    element(isFixed ? "span.type.fixed" : "span.type", schemas.typeName(schema)),
    required && name && !isFixed && element("span.required", "required"),
    resolved.deprecated && element("span.required", "deprecated"),
    resolved.readOnly && element("span.quiet", "read only"),
  );
  const parts = partsOf(schemas, schema);
  const about = [
    resolved.description && element("p.hint", inline(resolved.description)),
    words.length > 0 && element("p.hint", words.join(" · ")),
    resolved.examples?.length > 0 &&
      element(
        "p.hint",
        "for example ",
        element("code", resolved.examples.map((one) => JSON.stringify(one)).join(", ")),
      ),
  ];
  if (parts.length === 0) return element("li", line, about);
  const details = element("details", element("summary", line));
  details.ontoggle = () => {
    if (details.open && details.childElementCount === 1) details.append(...parts.map((part) => part()));
  };
  return element("li", details, about);
}

/**
 * What is inside a schema, each as a function that makes its view.
 *
 * `seen` has the references on the way here: a type that contains itself, as JSON does, is one more item to open.
 */
function partsOf(schemas, schema, seen = []) {
  if (seen.includes(schema.$ref)) return [() => element("ul.schema", fieldItem(schemas, "", schema, true))];
  const resolved = schemas.resolve(schema);
  const inner = schema.$ref ? [...seen, schema.$ref] : seen;
  switch (schemas.kind(schema)) {
    case "object":
      return [() => fieldList(schemas, schema)];
    case "map":
      return partsOf(schemas, resolved.additionalProperties, inner);
    case "array":
      return [...(resolved.prefixItems ?? []), resolved.items ?? {}].flatMap((item) => partsOf(schemas, item, inner));
    case "union":
      return unionParts(schemas, resolved, inner);
    default:
      return [];
  }
}

function unionParts(schemas, schema, seen) {
  const parts = schemas
    .alternatives(schema)
    .map((choice) => [choice, partsOf(schemas, choice, seen)])
    .filter(([, inside]) => inside.length > 0);
  if (parts.length === 1) return parts[0][1];
  return parts.map(([choice, inside]) => () => {
    const name = element("p.choice-name", schemas.typeName(choice));
    return element(
      "div.choice",
      name,
      inside.map((part) => part()),
    );
  });
}

/** The fields of a message on one line: `type: "say", text: string`. */
export function signature(schemas, message) {
  if (message.problem) return "not described";
  if (message.format !== "json") return message.format === "text" ? "any text" : "any bytes";
  if (schemas.kind(message.schema) !== "object") return schemas.typeName(message.schema);
  const { properties, required = [] } = schemas.resolve(message.schema);
  const fields = Object.entries(properties).map(([name, inner]) => {
    const optional = required.includes(name) || "const" in schemas.resolve(inner) ? "" : "?";
    return `${name}${optional}: ${schemas.typeName(inner, 1)}`;
  });
  return `{ ${fields.join(", ")} }`;
}
