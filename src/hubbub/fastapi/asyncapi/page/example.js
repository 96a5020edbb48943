/** Makes a value that fits a schema, to fill a form with and to show. */

const BY_FORMAT = {
  "date-time": "2030-01-31T12:00:00Z",
  date: "2030-01-31",
  time: "12:00:00Z",
  duration: "PT1M30S",
  uuid: "6f2d4c1e-0a3b-4f5d-8c7e-9b1a2d3e4f50",
  email: "ada@example.com",
  uri: "https://example.com/",
  url: "https://example.com/",
  hostname: "example.com",
  ipv4: "192.0.2.1",
  ipv6: "2001:db8::1",
  base64: "aHVi",
  binary: "",
};
const WORDS = ["text", "lobby", "ada", "a", "1", "0", "a-1", "A1", "2030-01-31", "00000000", "0123456789abcdef"];

/** A value that fits the schema: what it gives as an example or default, or else one made from its constraints. */
export function exampleOf(schemas, schema, name = "") {
  return make(schemas, schema, name, []) ?? null;
}

/** A value for a part that somebody adds: null only where there is nothing else. */
export function exampleOfAdded(schemas, schema, name = "") {
  const value = exampleOf(schemas, schema, name);
  const others = schemas.alternatives(schema).filter((choice) => schemas.kind(choice) !== "null");
  return value === null && others.length ? exampleOf(schemas, others[0], name) : value;
}

/** The value to show and to send for a message: its own example, or one that is made. */
export function exampleOfMessage(schemas, message) {
  if (message.examples.length) return message.examples[0];
  if (message.format === "text") return "Hello";
  return message.format === "binary" ? "" : exampleOf(schemas, message.schema);
}

/** Whether a property is needed, or is there by itself: as the `type` of a message that has a default. */
export function isAlwaysThere(schemas, schema, required = false) {
  const resolved = schemas.resolve(schema);
  return required || ("const" in resolved && resolved.default !== undefined);
}

/** Whether an example has a property: those that are needed, and those whose value the schema itself gives. */
function isShown(schemas, schema, required) {
  const resolved = schemas.resolve(schema);
  return required || resolved.examples?.length > 0 || (resolved.default ?? null) !== null;
}

/** `stack` has the references that are being made: undefined says that there is no end on this way. */
function make(schemas, schema, name, stack) {
  const reference = schema?.$ref;
  if (reference !== undefined && stack.includes(reference)) return undefined;
  const inner = reference === undefined ? stack : [...stack, reference];
  const resolved = schemas.resolve(schema);
  if (resolved.examples?.length) return resolved.examples[0];
  if (resolved.default !== undefined && !("const" in resolved)) return resolved.default;
  switch (schemas.kind(schema)) {
    case "const":
      return resolved.const;
    case "enum":
      return resolved.enum[0];
    case "union":
      return first(resolved.anyOf ?? resolved.oneOf, (choice) => make(schemas, choice, name, inner));
    case "object":
      return makeObject(schemas, resolved, inner);
    case "map":
      return {};
    case "array":
      return makeArray(schemas, resolved, name, inner);
    case "string":
      return makeString(resolved, name);
    case "integer":
      return makeNumber(resolved, 1);
    case "number":
      return makeNumber(resolved, 1);
    case "boolean":
      return true;
    case "null":
      return null;
    default:
      return {};
  }
}

function first(choices, made) {
  for (const choice of choices) {
    const value = made(choice);
    if (value !== undefined) return value;
  }
  return undefined;
}

function makeObject(schemas, { properties = {}, required = [] }, stack) {
  const object = {};
  for (const [name, schema] of Object.entries(properties)) {
    if (!isShown(schemas, schema, required.includes(name))) continue;
    const value = make(schemas, schema, name, stack);
    if (value === undefined) return undefined;
    object[name] = value;
  }
  return object;
}

function makeArray(schemas, { items = {}, prefixItems, minItems = 0, maxItems = Infinity }, name, stack) {
  if (prefixItems) return prefixItems.map((item) => make(schemas, item, name, stack) ?? null);
  const item = maxItems > 0 ? make(schemas, items, name, stack) : undefined;
  if (item === undefined) return minItems > 0 ? undefined : [];
  return Array.from({ length: Math.max(1, minItems) }, () => item);
}

function makeString({ format, pattern, minLength = 0, maxLength = Infinity }, name) {
  if (BY_FORMAT[format] !== undefined) return BY_FORMAT[format];
  const fits = (word) => word.length >= minLength && word.length <= maxLength && (!pattern || matches(pattern, word));
  const found = [name, ...WORDS].find((word) => word && fits(word));
  return found ?? (pattern ? "" : (name || "text").padEnd(minLength, "x").slice(0, maxLength));
}

function matches(pattern, text) {
  try {
    return new RegExp(pattern, "u").test(text);
  } catch {
    return false;
  }
}

function makeNumber(schema, step) {
  const unit = schema.multipleOf ?? step;
  const over = schema.exclusiveMinimum === undefined ? undefined : schema.exclusiveMinimum + unit;
  const under = schema.exclusiveMaximum === undefined ? undefined : schema.exclusiveMaximum - unit;
  const least = schema.minimum ?? over;
  const most = schema.maximum ?? under;
  if (least > most) return ((schema.exclusiveMinimum ?? least) + (schema.exclusiveMaximum ?? most)) / 2;
  if (least !== undefined) return Math.ceil(least / unit) * unit;
  return most !== undefined && most < unit ? Math.floor(most / unit) * unit : unit;
}
