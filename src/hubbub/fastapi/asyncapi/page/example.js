/** Makes a value that fits a schema, to fill a form with and to show. */

const BY_FORMAT = {
  __proto__: null,
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
const MOST_STEPS = 5_000;
const MOST_UNIONS = 4;
const WORDS = ["text", "lobby", "ada", "a", "1", "0", "a-1", "A1", "2030-01-31", "00000000", "0123456789abcdef"];

/** A value that fits the schema: its example or default, or else one with as few unions within each other as can be. */
export function exampleOf(schemas, schema, name = "") {
  const budget = { steps: MOST_STEPS };
  for (let unions = 1; unions <= MOST_UNIONS; unions += 1) {
    const value = make(schemas, schema, name, { references: [], unions, budget });
    if (value !== undefined) return value;
  }
  return null;
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

/** `way` has the references that are being made, and what it may take: undefined says that there is no end on it. */
function make(schemas, schema, name, way) {
  const reference = schema?.$ref;
  way.budget.steps -= 1;
  if (way.budget.steps < 0 || way.references.includes(reference)) return undefined;
  const inner = reference === undefined ? way : { ...way, references: [...way.references, reference] };
  const resolved = schemas.resolve(schema);
  if (resolved.examples?.length) return resolved.examples[0];
  if (resolved.default !== undefined && !("const" in resolved)) return resolved.default;
  switch (schemas.kind(schema)) {
    case "const":
      return resolved.const;
    case "enum":
      return resolved.enum[0];
    case "union":
      return makeUnion(schemas, resolved.anyOf ?? resolved.oneOf, name, inner);
    case "object":
      return makeObject(schemas, resolved, inner);
    case "map":
      return {};
    case "array":
      return makeArray(schemas, resolved, name, inner);
    case "string":
      return makeString(resolved, name);
    case "integer":
    case "number":
      return makeNumber(resolved);
    case "boolean":
      return true;
    case "null":
      return null;
    default:
      return {};
  }
}

function makeUnion(schemas, choices, name, way) {
  const isDeep = choices.filter((choice) => schemas.kind(choice) === "object").length > 1;
  if (isDeep && way.unions === 0) return undefined;
  const inner = isDeep ? { ...way, unions: way.unions - 1 } : way;
  for (const choice of choices) {
    const value = make(schemas, choice, name, inner);
    if (value !== undefined) return value;
  }
  return undefined;
}

function makeObject(schemas, { properties = {}, required = [] }, stack) {
  const pairs = [];
  for (const [name, schema] of Object.entries(properties)) {
    if (!isShown(schemas, schema, required.includes(name))) continue;
    const value = make(schemas, schema, name, stack);
    if (value === undefined) return undefined;
    pairs.push([name, value]);
  }
  return Object.fromEntries(pairs);
}

function makeArray(schemas, schema, name, stack) {
  const { items = {}, prefixItems, minItems = 0, maxItems = Infinity, uniqueItems } = schema;
  if (prefixItems) {
    const values = prefixItems.map((one) => make(schemas, one, name, stack));
    return values.includes(undefined) ? undefined : values;
  }
  const item = maxItems > 0 ? make(schemas, items, name, stack) : undefined;
  if (item === undefined) return minItems > 0 ? undefined : [];
  return Array.from({ length: Math.max(1, minItems) }, (_, index) =>
    uniqueItems ? another(schemas, items, item, index) : item,
  );
}

/** A value beside the first that was made, where all have to differ. */
function another(schemas, schema, value, index) {
  const { enum: choices, multipleOf = 1 } = schemas.resolve(schema);
  if (choices) return choices[index] ?? value;
  if (typeof value === "number") return value + index * multipleOf;
  if (typeof value === "boolean") return index === 0;
  return typeof value === "string" && index ? `${value}${index + 1}` : value;
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

function makeNumber(schema) {
  const { minimum = -Infinity, maximum = Infinity, exclusiveMinimum = -Infinity, exclusiveMaximum = Infinity } = schema;
  const unit = schema.multipleOf ?? 1;
  const least = Math.max(minimum, exclusiveMinimum);
  const most = Math.min(maximum, exclusiveMaximum);
  const up = Math.ceil(least / unit) * unit;
  const down = Math.floor(most / unit) * unit;
  const whole = [least === -Infinity ? unit : up, up + unit, down, down - unit];
  const fits = (one) => one >= minimum && one > exclusiveMinimum && one <= maximum && one < exclusiveMaximum;
  const found = [...whole, ...(schema.type === "integer" ? [] : [least, (least + most) / 2])];
  return found.find((one) => Number.isFinite(one) && fits(one)) ?? unit;
}
