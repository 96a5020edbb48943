/** Says what does not fit a schema, in words for the field that it is about. */
import { few, plural, shown } from "./words.js";

const FORMATS = {
  __proto__: null,
  uuid: [/^[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}$/i, "must be a UUID"],
  date: [/^\d{4}-\d\d-\d\d$/, "must be a date, such as 2030-01-31"],
  "date-time": [/^\d{4}-\d\d-\d\d[Tt _]\d\d:\d\d/, "must be a date and time, such as 2030-01-31T12:00:00Z"],
  time: [/^\d\d:\d\d/, "must be a time, such as 12:00:00"],
  email: [/^[^@\s]+@[^@\s]+$/, "must be an email address"],
  uri: [/^[a-z][a-z0-9+.-]*:/i, "must be a URI"],
};
const DEEPEST = 24;
const MOST_STEPS = 20_000;
const MOST_TRIES = 1e7;
const DIFFERENT = 1_000;

let stepsLeft = 0;

/** What is wrong with a value: `[{path, message}]`, nothing if it fits, or if it takes too long to tell. */
export function faultsOf(schemas, schema, value) {
  stepsLeft = MOST_STEPS;
  return check(schemas, schema, value, []);
}

function check(schemas, schema, value, path) {
  stepsLeft -= 1;
  if (path.length > DEEPEST || stepsLeft < 0) return [];
  if (schema === false) return [{ path, message: "must not be there" }];
  const resolved = schemas.resolve(schema);
  switch (schemas.kind(schema)) {
    case "const":
      return same(resolved.const, value) ? [] : [{ path, message: `must be ${JSON.stringify(resolved.const)}` }];
    case "enum":
      return resolved.enum.some((one) => same(one, value))
        ? []
        : [{ path, message: `must be one of ${list(resolved.enum)}` }];
    case "union":
      return unionFaults(schemas, schema, value, path);
    case "object":
    case "map":
      return objectFaults(schemas, resolved, value, path);
    case "array":
      return arrayFaults(schemas, resolved, value, path);
    default:
      return scalarFaults(resolved, value).map((message) => ({ path, message }));
  }
}

/** What is wrong with the text of a parameter, or null. It stands for a value of the schema's type, as in a URL. */
export function parameterFault(schemas, { schema, required, place, slashes }, text) {
  const texts = textsOf(schemas, schema, text);
  if (texts.length === 0) return required ? "is required" : null;
  if (place === "path" && text.split("/").some((part) => /^\.{1,2}$/.test(part)))
    return "cannot be a dot or two: a URL has a meaning of its own for them";
  if (place === "path" && !slashes && text.includes("/")) return "cannot have a slash";
  if (place === "header" && texts.some((one) => /[\r\n]/.test(one))) return "cannot have a line break";
  const list = listOf(schemas, schema);
  if (!list) return textFault(schemas, schema, text);
  const { items = {}, prefixItems = [], ...about } = schemas.resolve(list);
  const faults = texts.map((one, index) => textFault(schemas, prefixItems[index] ?? items, one));
  return arrayFaults(schemas, about, texts, [])[0]?.message ?? faults.find(Boolean) ?? null;
}

/** The texts that stand in the field of a parameter, one a line if it may be given several times. */
export function textsOf(schemas, schema, text) {
  return (listOf(schemas, schema) ? text.split("\n") : [text]).filter(Boolean);
}

/** The list among the choices of a parameter, if it may be given several times. */
export function listOf(schemas, schema) {
  return schemas.alternatives(schema).find((choice) => schemas.kind(choice) === "array");
}

function textFault(schemas, schema, text) {
  const faults = schemas
    .alternatives(schema)
    .filter((choice) => schemas.kind(choice) !== "null")
    .map((choice) => faultsOf(schemas, choice, fromText(schemas, choice, text)));
  return faults.length === 0 || faults.some((some) => some.length === 0) ? null : faults[0][0].message;
}

function fromText(schemas, schema, text) {
  const resolved = schemas.resolve(schema);
  const fixed = "const" in resolved ? [resolved.const] : resolved.enum;
  if (fixed) return fixed.find((value) => shown(value) === text) ?? text;
  const { type } = resolved;
  if (type === "integer" || type === "number")
    return text.trim() !== "" && Number.isFinite(Number(text)) ? Number(text) : text;
  if (type === "boolean")
    return /^(true|1|on|yes|t|y)$/i.test(text) ? true : /^(false|0|off|no|f|n)$/i.test(text) ? false : text;
  return text;
}

/** Those of some choices that a value is nearest to, by what is seen without a look at what is inside it. */
export function likely(schemas, choices, value) {
  const far = choices.map((choice) => distance(schemas, choice, value));
  const least = Math.min(...far);
  return choices.filter((_, index) => far[index] === least);
}

/** 0 if a value may fit: else how much is missing, or has another fixed value. */
function distance(schemas, schema, value) {
  const kind = schemas.kind(schema);
  const { properties = {}, required = [] } = schemas.resolve(schema);
  const isOther = (inner, one) => fixedValues(schemas, inner)?.some((fixed) => same(fixed, one)) === false;
  if (!suits(kind, value) || isOther(schema, value)) return Infinity;
  if (kind !== "object") return 0;
  const others = Object.keys(properties).filter(
    (name) => Object.hasOwn(value, name) && isOther(properties[name], value[name]),
  );
  return others.length * DIFFERENT + required.filter((name) => !Object.hasOwn(value, name)).length;
}

function fixedValues(schemas, schema) {
  const resolved = schemas.resolve(schema);
  return "const" in resolved ? [resolved.const] : resolved.enum;
}

/** Whether a value is of this kind, so that it may fit. */
export function suits(kind, value) {
  if (["const", "enum", "union", "any"].includes(kind)) return true;
  if (kind === "object" || kind === "map") return isObject(value);
  if (kind === "array") return Array.isArray(value);
  if (kind === "null") return value === null;
  return typeof value === (kind === "integer" ? "number" : kind);
}

/** What is wrong with the tag of a union, if no choice has it. */
function tagFaults(schemas, { discriminator }, choices, value, path) {
  const name = discriminator?.propertyName ?? discriminator;
  if (typeof name !== "string" || !isObject(value)) return [];
  if (!Object.hasOwn(value, name)) return [{ path: [...path, name], message: "is required" }];
  const known = choices.flatMap((choice) => fixedValues(schemas, schemas.resolve(choice).properties?.[name]));
  if (known.includes(undefined) || known.some((one) => same(one, value[name]))) return [];
  return [{ path: [...path, name], message: `must be one of ${list(known)}` }];
}

function unionFaults(schemas, schema, value, path) {
  const choices = schemas.alternatives(schema);
  const wrongTag = tagFaults(schemas, schemas.resolve(schema), choices, value, path);
  if (wrongTag.length) return wrongTag;
  const results = [];
  for (const choice of likely(schemas, choices, value)) {
    const faults = check(schemas, choice, value, path);
    if (faults.length === 0) return [];
    results.push(faults);
  }
  if (results.length === 0) return [];
  // The choice that comes nearest is most likely the one that was meant: faults deep inside are nearer than at the top.
  const depth = (faults) => Math.min(...faults.map((fault) => fault.path.length));
  return results.reduce((best, faults) =>
    depth(faults) > depth(best) || (depth(faults) === depth(best) && faults.length < best.length) ? faults : best,
  );
}

function objectFaults(schemas, schema, value, path) {
  if (!isObject(value)) return [{ path, message: "must be an object" }];
  const { properties = {}, required = [], additionalProperties = true } = schema;
  const missing = required.filter((name) => !Object.hasOwn(value, name));
  return [
    ...missing.map((name) => ({ path: [...path, name], message: "is required" })),
    ...Object.entries(value).flatMap(([name, inner]) => {
      if (Object.hasOwn(properties, name)) return check(schemas, properties[name], inner, [...path, name]);
      return check(schemas, additionalProperties, inner, [...path, name]);
    }),
  ];
}

function arrayFaults(schemas, schema, value, path) {
  if (!Array.isArray(value)) return [{ path, message: "must be a list" }];
  const { prefixItems = [], items = true } = schema;
  const least = schema.minItems ?? 0;
  const faults = [];
  if (value.length < least) faults.push({ path, message: `needs at least ${plural(least, "item")}` });
  if (value.length > schema.maxItems) faults.push({ path, message: `has more than ${plural(schema.maxItems, "item")}` });
  if (schema.uniqueItems && new Set(value.map((one) => JSON.stringify(one))).size < value.length) {
    faults.push({ path, message: "has an item twice" });
  }
  return [
    ...faults,
    ...value.flatMap((item, index) => check(schemas, prefixItems[index] ?? items, item, [...path, index])),
  ];
}

function scalarFaults(schema, value) {
  switch (schema.type) {
    case "string":
      return typeof value === "string" ? stringFaults(schema, value) : ["must be a string"];
    case "integer":
      return Number.isInteger(value) ? numberFaults(schema, value) : ["must be a whole number"];
    case "number":
      return typeof value === "number" ? numberFaults(schema, value) : ["must be a number"];
    case "boolean":
      return typeof value === "boolean" ? [] : ["must be true or false"];
    case "null":
      return value === null ? [] : ["must be null"];
    case "object":
      return isObject(value) ? [] : ["must be an object"];
    default:
      return [];
  }
}

function stringFaults({ minLength = 0, maxLength = Infinity, pattern, format }, value) {
  const length = [...value].length; // characters are code points, as they are in Python
  if (length < minLength) return [`must have at least ${plural(minLength, "character")}`];
  if (length > maxLength) return [`must have at most ${plural(maxLength, "character")}`];
  if (pattern !== undefined && !allowed(pattern, value)) return [`must match ${pattern}`];
  const [expression, message] = FORMATS[format] ?? [];
  return expression && !expression.test(value) ? [message] : [];
}

/** A pattern that this browser cannot read (the server's dialect is another), or that may take long, forbids nothing. */
function allowed(pattern, text) {
  try {
    return mayTakeLong(pattern, text) || new RegExp(pattern, "u").test(text);
  } catch {
    return true;
  }
}

/** The server's patterns are linear (Rust's `regex`), but a browser goes back: after `(\w+)*` it would try for ever. */
function mayTakeLong(pattern, text) {
  let rest = pattern.replace(/\\.|\[(\\.|[^\]\\])*\]/g, "x").replace(/\(\?(<\w+>|<?[=!]|:)/g, "(");
  const open = (rest.match(/[*+]|\{\d+,/g) ?? []).length + (rest.startsWith("^") ? 0 : 1);
  if (text.length ** open > MOST_TRIES) return true;
  for (let before = ""; before !== rest; ) {
    before = rest;
    rest = rest.replace(/\(([^()]*)\)/g, (_, inner) => (/[*+?|\0]|\{\d+,/.test(inner) ? "\0" : "x"));
    if (/\0[*+{]/.test(rest)) return true;
  }
  return false;
}

function numberFaults(schema, value) {
  if (value < schema.minimum) return [`must be ${schema.minimum} or more`];
  if (value <= schema.exclusiveMinimum) return [`must be more than ${schema.exclusiveMinimum}`];
  if (value > schema.maximum) return [`must be ${schema.maximum} or less`];
  if (value >= schema.exclusiveMaximum) return [`must be less than ${schema.exclusiveMaximum}`];
  const parts = schema.multipleOf ? value / schema.multipleOf : 0;
  return Math.abs(parts - Math.round(parts)) > 1e-9 ? [`must be a multiple of ${schema.multipleOf}`] : [];
}

export function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function same(one, other) {
  return one === other || JSON.stringify(one) === JSON.stringify(other);
}

function list(values) {
  return few(values).join(", ");
}
