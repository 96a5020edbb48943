/** Says what does not fit a schema, in words for the field that it is about. */

const FORMATS = {
  uuid: [/^[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}$/i, "must be a UUID"],
  date: [/^\d{4}-\d\d-\d\d$/, "must be a date, such as 2030-01-31"],
  "date-time": [/^\d{4}-\d\d-\d\d[Tt _]\d\d:\d\d/, "must be a date and time, such as 2030-01-31T12:00:00Z"],
  time: [/^\d\d:\d\d/, "must be a time, such as 12:00:00"],
  email: [/^[^@\s]+@[^@\s]+$/, "must be an email address"],
  uri: [/^[a-z][a-z0-9+.-]*:/i, "must be a URI"],
};
const DEEPEST = 24;

/** What is wrong with a value: `[{path, message}]`, nothing if it fits. */
export function faultsOf(schemas, schema, value, path = []) {
  if (path.length > DEEPEST) return [];
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
  if (text === "") return required ? "is required" : null;
  if (place === "path" && text.split("/").some((part) => /^\.{1,2}$/.test(part)))
    return "cannot be a dot or two: a URL has a meaning of its own for them";
  if (place === "path" && !slashes && text.includes("/")) return "cannot have a slash";
  if (place === "header" && /[\r\n]/.test(text)) return "cannot have a line break";
  if (isList(schemas, schema)) {
    const items = text.split("\n");
    const faults = faultsOf(schemas, { ...schemas.resolve(schema), items: true }, items);
    const inner = items.map((item) => textFault(schemas, schemas.resolve(schema).items ?? {}, item)).find(Boolean);
    return faults[0]?.message ?? inner ?? null;
  }
  return textFault(schemas, schema, text);
}

/** Whether a parameter may be given several times. */
export function isList(schemas, schema) {
  return schemas.alternatives(schema).some((choice) => schemas.kind(choice) === "array");
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
  const sample = resolved.const ?? resolved.enum?.[0];
  const type = resolved.type ?? (sample === undefined ? "string" : typeof sample);
  if (type === "integer" || type === "number")
    return text.trim() !== "" && Number.isFinite(Number(text)) ? Number(text) : text;
  if (type === "boolean")
    return /^(true|1|on|yes|t|y)$/i.test(text) ? true : /^(false|0|off|no|f|n)$/i.test(text) ? false : text;
  return text;
}

function unionFaults(schemas, schema, value, path) {
  const results = schemas.alternatives(schema).map((choice) => faultsOf(schemas, choice, value, path));
  if (results.some((faults) => faults.length === 0)) return [];
  // The choice that comes nearest is most likely the one that was meant: faults deep inside are nearer than at the top.
  const depth = (faults) => Math.min(...faults.map((fault) => fault.path.length));
  return results.reduce((best, faults) =>
    depth(faults) > depth(best) || (depth(faults) === depth(best) && faults.length < best.length) ? faults : best,
  );
}

function objectFaults(schemas, schema, value, path) {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    return [{ path, message: "must be an object" }];
  const { properties = {}, required = [], additionalProperties = true } = schema;
  const missing = required.filter((name) => !Object.hasOwn(value, name));
  return [
    ...missing.map((name) => ({ path: [...path, name], message: "is required" })),
    ...Object.entries(value).flatMap(([name, inner]) => {
      if (Object.hasOwn(properties, name)) return faultsOf(schemas, properties[name], inner, [...path, name]);
      return faultsOf(schemas, additionalProperties, inner, [...path, name]);
    }),
  ];
}

function arrayFaults(schemas, schema, value, path) {
  if (!Array.isArray(value)) return [{ path, message: "must be a list" }];
  const { prefixItems = [], items = true } = schema;
  const least = schema.minItems ?? 0;
  const faults = [];
  if (value.length < least) faults.push({ path, message: `needs at least ${least} item${least === 1 ? "" : "s"}` });
  if (value.length > schema.maxItems) faults.push({ path, message: `has more than ${schema.maxItems} items` });
  if (schema.uniqueItems && new Set(value.map((one) => JSON.stringify(one))).size < value.length) {
    faults.push({ path, message: "has an item twice" });
  }
  return [
    ...faults,
    ...value.flatMap((item, index) => faultsOf(schemas, prefixItems[index] ?? items, item, [...path, index])),
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
      return typeof value === "object" && value !== null && !Array.isArray(value) ? [] : ["must be an object"];
    default:
      return [];
  }
}

function stringFaults({ minLength = 0, maxLength = Infinity, pattern, format }, value) {
  const length = [...value].length; // characters are code points, as they are in Python
  if (length < minLength) return [`must have at least ${minLength} character${minLength === 1 ? "" : "s"}`];
  if (length > maxLength) return [`must have at most ${maxLength} characters`];
  if (pattern !== undefined && !allowed(pattern, value)) return [`must match ${pattern}`];
  const [expression, message] = FORMATS[format] ?? [];
  return expression && !expression.test(value) ? [message] : [];
}

/** A pattern that this browser cannot read (the server's dialect is another) forbids nothing here. */
function allowed(pattern, text) {
  try {
    return new RegExp(pattern, "u").test(text);
  } catch {
    return true;
  }
}

function numberFaults(schema, value) {
  if (value < schema.minimum) return [`must be ${schema.minimum} or more`];
  if (value <= schema.exclusiveMinimum) return [`must be more than ${schema.exclusiveMinimum}`];
  if (value > schema.maximum) return [`must be ${schema.maximum} or less`];
  if (value >= schema.exclusiveMaximum) return [`must be less than ${schema.exclusiveMaximum}`];
  const parts = schema.multipleOf ? value / schema.multipleOf : 0;
  return Math.abs(parts - Math.round(parts)) > 1e-9 ? [`must be a multiple of ${schema.multipleOf}`] : [];
}

function same(one, other) {
  return one === other || JSON.stringify(one) === JSON.stringify(other);
}

function list(values) {
  return values.map((value) => JSON.stringify(value)).join(", ");
}
