/** What a JSON Schema is, once its references are followed: kind, alternatives, name, and constraints in words. */

import { few, plural } from "./words.js";

const TYPES = new Set(["string", "integer", "number", "boolean", "null"]);
const TEXTS = ["title", "description", "format", "pattern"];

export class Schemas {
  constructor(document) {
    this.document = document;
  }

  /** What a reference stands for; anything else is itself. */
  follow(value) {
    const seen = new Set();
    while (value?.$ref !== undefined && !seen.has(value.$ref)) {
      seen.add(value.$ref);
      value = this.#at(value.$ref);
    }
    return value ?? {};
  }

  /**
   * A schema without reference, `allOf` and list of types. What stands beside a reference is nearer: it wins.
   *
   * `outer` has the references on the way here: what consists of itself is nothing more. What should be text is text.
   */
  resolve(schema, outer = []) {
    if (schema === false) return { not: {} };
    if (schema === null || typeof schema !== "object") return {};
    const seen = new Set(outer);
    while (schema.$ref !== undefined && !seen.has(schema.$ref)) {
      const { $ref, ...beside } = schema;
      seen.add($ref);
      schema = { ...this.#at($ref), ...beside };
    }
    if (schema.allOf) schema = this.#merged(schema, seen);
    for (const name of TEXTS) {
      if (schema[name] !== undefined && typeof schema[name] !== "string") schema = { ...schema, [name]: undefined };
    }
    if (Array.isArray(schema.type)) {
      const { type, ...others } = schema;
      schema = { ...others, anyOf: type.map((one) => ({ type: one })) };
    }
    return schema;
  }

  /** const, enum, union, object, map, array, string, integer, number, boolean, null or any. */
  kind(schema) {
    const resolved = this.resolve(schema);
    if ("const" in resolved) return "const";
    if (resolved.enum) return "enum";
    if (resolved.anyOf ?? resolved.oneOf) return "union";
    if (resolved.properties) return "object";
    if (resolved.type === "object") return isSchema(resolved.additionalProperties) ? "map" : "any";
    if (resolved.type === "array" || resolved.items || resolved.prefixItems) return "array";
    return TYPES.has(resolved.type) ? resolved.type : "any";
  }

  /** The choices of a union; a schema that is none is its own only choice. Unions within unions are opened. */
  alternatives(schema, depth = 0) {
    const resolved = this.resolve(schema);
    const choices = resolved.anyOf ?? resolved.oneOf;
    if (!choices || depth > 4) return [schema];
    return choices.flatMap((choice) => this.alternatives(choice, depth + 1));
  }

  /** A type as a reader names it: `string`, `Say`, `list of integer`, `string or null`. */
  typeName(schema, depth = 0) {
    const resolved = this.resolve(schema);
    if (depth > 3) return "…";
    switch (this.kind(schema)) {
      case "const":
        return JSON.stringify(resolved.const);
      case "enum":
        return resolved.title && schema.$ref ? resolved.title : typesOf(resolved.enum);
      case "union":
        return this.#unionName(resolved, schema, depth);
      case "map":
        return `map of ${this.typeName(resolved.additionalProperties, depth + 1)}`;
      case "array":
        return this.#arrayName(resolved, depth);
      case "object":
        return resolved.title || typeNameOf(schema.$ref) || "object";
      case "any":
        return resolved.type === "object" ? "object" : "anything";
      default:
        return resolved.format && resolved.type === "string" ? resolved.format : resolved.type;
    }
  }

  /** The constraints of a schema in words, the default among them. */
  constraints(schema) {
    const resolved = this.resolve(schema);
    const alternatives = this.alternatives(schema);
    const values = alternatives.filter((one) => this.kind(one) !== "null");
    const inner = alternatives.length > 1 && values.length === 1 ? this.resolve(values[0]) : {};
    return constraintsOf({ ...inner, ...resolved });
  }

  #unionName(resolved, schema, depth) {
    if (depth > 0 && schema.$ref) return resolved.title || typeNameOf(schema.$ref);
    return [...new Set(this.alternatives(resolved).map((choice) => this.typeName(choice, depth + 1)))].join(" or ");
  }

  #arrayName({ items, prefixItems }, depth) {
    if (prefixItems) return `[${prefixItems.map((item) => this.typeName(item, depth + 1)).join(", ")}]`;
    return items && items !== true ? `list of ${this.typeName(items, depth + 1)}` : "list";
  }

  #merged({ allOf, ...own }, seen) {
    const parts = [...allOf.map((part) => this.resolve(part, seen)), own];
    const together = (objects) => Object.fromEntries(objects.flatMap((object) => Object.entries(object)));
    const properties = together(parts.map((part) => part.properties ?? {}));
    const required = [...new Set(parts.flatMap((part) => part.required ?? []))];
    const merged = together(parts);
    if (Object.keys(properties).length) merged.properties = properties;
    if (required.length) merged.required = required;
    return merged;
  }

  #at(reference) {
    if (!String(reference).startsWith("#/")) return {};
    let value = this.document;
    for (const part of reference.slice(2).split("/").map(unescaped)) {
      value = Object.hasOwn(value ?? {}, part) ? value[part] : undefined;
    }
    return value ?? {};
  }
}

function isSchema(value) {
  return typeof value === "object" && value !== null && Object.keys(value).length > 0;
}

/** One part of a JSON Pointer in a URI fragment (RFC 6901, section 6). */
function unescaped(part) {
  try {
    part = decodeURIComponent(part);
  } catch {
    // A percent sign that escapes nothing is itself.
  }
  return part.replaceAll("~1", "/").replaceAll("~0", "~");
}

/** The last part of a reference. */
export function nameOf(reference = "") {
  return unescaped(reference.split("/").pop());
}

/** The name of a type that has no title. Pydantic tells what is taken from what is given, where the two differ. */
function typeNameOf(reference) {
  return nameOf(reference).replace(/-(Input|Output)$/, "");
}

function typesOf(values) {
  return [...new Set(values.map((value) => (value === null ? "null" : typeof value)))].join(" or ");
}

function range(least, most, one, many) {
  if (least === undefined && most === undefined) return [];
  if (least === most) return [`exactly ${plural(least, one, many)}`];
  if (most === undefined) return least > 0 ? [`at least ${plural(least, one, many)}`] : [];
  if (!least) return [`at most ${plural(most, one, many)}`];
  return [`${least} to ${plural(most, one, many)}`];
}

function constraintsOf(schema) {
  const words = [
    ...range(schema.minLength, schema.maxLength, "character"),
    ...range(schema.minItems, schema.maxItems, "item"),
    ...range(schema.minProperties, schema.maxProperties, "entry", "entries"),
  ];
  if (schema.minimum !== undefined) words.push(`≥ ${schema.minimum}`);
  if (schema.exclusiveMinimum !== undefined) words.push(`> ${schema.exclusiveMinimum}`);
  if (schema.maximum !== undefined) words.push(`≤ ${schema.maximum}`);
  if (schema.exclusiveMaximum !== undefined) words.push(`< ${schema.exclusiveMaximum}`);
  if (schema.multipleOf !== undefined) words.push(`a multiple of ${schema.multipleOf}`);
  if (schema.pattern !== undefined) words.push(`matches ${schema.pattern}`);
  if (schema.uniqueItems) words.push("no item twice");
  if (schema.enum) words.push(`one of ${few(schema.enum).join(", ")}`);
  const preset = JSON.stringify(schema.default ?? null);
  if (!["null", "[]", "{}", '""'].includes(preset) && !("const" in schema)) words.push(`default ${preset}`);
  if (schema.additionalProperties === false) words.push("no other fields");
  return words;
}
