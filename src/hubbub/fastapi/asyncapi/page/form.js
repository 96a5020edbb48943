/**
 * A form for a JSON value, made from its schema.
 *
 * Every control is `{node, read}`: what stands in the page, and a function that gives its value. A control is made for
 * a value that is there: parts that are optional or repeated are added by buttons, so that recursive schemas have an
 * end. A value that does not have the schema's type is kept as it is, as JSON text: a form never changes what it is
 * given.
 */
import { element, inline, newId } from "./element.js";
import { exampleOf, exampleOfAdded } from "./example.js";
import { faultsOf } from "./validate.js";

const LONG_TEXT = 200;
const GROUPS = new Set(["object", "map", "array"]);

/** A field of the form has text that is not JSON. */
export class UnreadableField extends Error {
  constructor(label, node) {
    super(`${label} is not JSON.`);
    this.node = node;
  }
}

/** A form for a value that fits, or nearly fits, the schema. It says `input` whenever its value changes. */
export function formFor(schemas, schema, value) {
  return new FormMaker(schemas).control({ schema, label: "", value });
}

class FormMaker {
  constructor(schemas) {
    this.schemas = schemas;
  }

  /** `place` is {schema, label, value, required, actions}: actions are the buttons beside its label. */
  control(place) {
    const kind = this.schemas.kind(place.schema);
    if (!suits(kind, place.value)) return this.json(place);
    return (this[kind] ?? this.json).call(this, place);
  }

  const(place) {
    const { const: fixed } = this.schemas.resolve(place.schema);
    if (JSON.stringify(place.value) !== JSON.stringify(fixed)) return this.json(place);
    const shown = typeof fixed === "string" ? fixed : JSON.stringify(fixed);
    const input = element("input.fixed", {
      id: newId("field"),
      value: shown,
      readOnly: true,
      title: "Always this value",
    });
    const label = element("label", { htmlFor: input.id }, place.label || "value");
    const node = element("div.field", element("div.field-head.constant", label, input, ...(place.actions ?? [])));
    return { node, read: () => fixed };
  }

  enum(place) {
    const choices = this.schemas.resolve(place.schema).enum;
    const chosen = choices.findIndex((choice) => choice === place.value);
    if (chosen < 0) return this.json(place);
    const select = element(
      "select",
      choices.map((choice, index) => element("option", { value: String(index) }, text(choice))),
    );
    select.value = String(chosen);
    return { node: this.#row(place, select), read: () => choices[Number(select.value)] };
  }

  boolean(place) {
    const id = newId("field");
    const box = element("input", { type: "checkbox", id, checked: place.value });
    const label = element("label", { htmlFor: id }, place.label || "true");
    const head = element("div.field-head", box, label, ...this.#notes(place), ...(place.actions ?? []));
    const node = element("div.field", head, this.#hint(place, box));
    return { node, read: () => box.checked };
  }

  string(place) {
    const resolved = this.schemas.resolve(place.schema);
    const long = place.value.includes("\n") || place.value.length > LONG_TEXT;
    const input = long
      ? element("textarea", { value: place.value, rows: 4 })
      : element("input", {
          value: place.value,
          type: "text",
          autocomplete: "off",
          spellcheck: !resolved.format && !resolved.pattern,
        });
    return { node: this.#row(place, input), read: () => input.value };
  }

  number(place) {
    const input = element("input", { type: "number", value: String(place.value), autocomplete: "off" });
    input.step = "any"; // and any range: a value that does not fit may be sent on purpose
    return { node: this.#row(place, input), read: () => (input.value === "" ? null : Number(input.value)) };
  }

  integer(place) {
    return this.number(place);
  }

  null(place) {
    return { node: this.#row(place, element("input.fixed", { value: "null", readOnly: true })), read: () => null };
  }

  /** Any JSON. */
  json(place) {
    const input = element("textarea.code", {
      rows: 3,
      spellcheck: false,
      value: JSON.stringify(place.value ?? null, null, 2),
    });
    const fault = element("p.fault", { id: newId("fault") });
    input.oninput = () => {
      fault.textContent = "";
      input.removeAttribute("aria-invalid");
    };
    const read = () => {
      try {
        return JSON.parse(input.value);
      } catch {
        fault.textContent = "This is not JSON.";
        input.setAttribute("aria-invalid", "true");
        throw new UnreadableField(place.label || "The message", input);
      }
    };
    const row = this.#row(place, input, "any JSON");
    row.append(fault);
    input.setAttribute("aria-describedby", `${input.getAttribute("aria-describedby") ?? ""} ${fault.id}`.trim());
    return { node: row, read };
  }

  union(place) {
    const choices = this.schemas.alternatives(place.schema);
    if (choices.length === 1) return this.control({ ...place, schema: choices[0] });
    const fitting = (value) => choices.findIndex((choice) => faultsOf(this.schemas, choice, value).length === 0);
    const nearest = choices.findIndex(
      (choice) => suits(this.schemas.kind(choice), place.value) && this.schemas.kind(choice) !== "null",
    );
    const current = [fitting(place.value), nearest, 0].find((index) => index >= 0);
    const names = choices.map((choice) => this.schemas.typeName(choice));
    const select = element(
      "select.small",
      names.map((name, index) => element("option", { value: String(index) }, name)),
    );
    select.value = String(current);
    select.setAttribute("aria-label", `Kind of ${place.label || "value"}`);
    const slot = element("div.slot", { role: "group", "aria-label": place.label || "value" });
    let inner;
    const show = (value) => {
      const chosen = choices[Number(select.value)];
      const kind = this.schemas.kind(chosen);
      const label = GROUPS.has(kind) ? "" : place.label; // the slot has the label of a group already
      inner = this.control({ schema: chosen, label, required: place.required, value });
      slot.replaceChildren(kind === "null" ? "" : inner.node);
    };
    select.onchange = () => {
      show(exampleOf(this.schemas, choices[Number(select.value)], place.label));
      changed(slot);
    };
    show(place.value);
    const name = element("span.name", place.label || "value");
    const head = element("div.field-head", name, select, ...(place.actions ?? []));
    return { node: element("div.field.union", head, slot), read: () => inner.read() };
  }

  object(place) {
    const { properties, required = [], additionalProperties } = this.schemas.resolve(place.schema);
    const fields = new Map(); // name -> control
    const list = element("div.fields");
    const buttons = element("div.adders");
    const add = (name, value) => {
      const known = Object.hasOwn(properties, name);
      const schema = known ? properties[name] : (additionalProperties ?? {});
      const isRequired = known && required.includes(name);
      const remove = isRequired
        ? []
        : [
            this.#remover(name, () => {
              fields.get(name).node.remove();
              fields.delete(name);
              offer();
              changed(list);
              focusFirst(buttons);
            }),
          ];
      fields.set(name, this.control({ schema, label: name, value, required: isRequired, actions: remove }));
      insertInOrder(list, fields, Object.keys(properties), name);
    };
    const offer = () =>
      buttons.replaceChildren(
        ...Object.keys(properties)
          .filter((name) => !fields.has(name))
          .map((name) => {
            const button = element("button.small.add", { type: "button" }, `+ ${name}`);
            button.setAttribute("aria-label", `Add ${name}`);
            button.onclick = () => {
              add(name, exampleOfAdded(this.schemas, properties[name], name));
              offer();
              changed(list);
              focusFirst(fields.get(name).node);
            };
            return button;
          }),
      );
    for (const [name, value] of Object.entries(place.value)) add(name, value);
    offer();
    const read = () => Object.fromEntries([...fields].map(([name, field]) => [name, field.read()]));
    return { node: this.#group(place, list, buttons), read };
  }

  map(place) {
    const { additionalProperties } = this.schemas.resolve(place.schema);
    const entries = new Set(); // {key, control}
    const list = element("div.fields");
    const add = (key, value) => {
      const input = element("input", { value: key, "aria-label": "Key", autocomplete: "off", spellcheck: false });
      const control = this.control({ schema: additionalProperties, label: "value", value, required: true });
      const entry = { input, control };
      const remover = this.#remover("entry", () => {
        row.remove();
        entries.delete(entry);
        changed(list);
        focusFirst(node);
      });
      const row = element("div.entry", element("div.entry-key", input, remover), control.node);
      entries.add(entry);
      list.append(row);
      return row;
    };
    for (const [key, value] of Object.entries(place.value)) add(key, value);
    const button = element("button.small.add", { type: "button" }, "+ entry");
    button.setAttribute("aria-label", `Add an entry to ${place.label || "the message"}`);
    button.onclick = () => {
      const row = add(`key${entries.size + 1}`, exampleOfAdded(this.schemas, additionalProperties));
      changed(list);
      focusFirst(row);
    };
    const node = this.#group(place, list, element("div.adders", button));
    return {
      node,
      read: () => Object.fromEntries([...entries].map(({ input, control }) => [input.value, control.read()])),
    };
  }

  array(place) {
    const { items = {}, prefixItems = [], maxItems = Infinity } = this.schemas.resolve(place.schema);
    const controls = [];
    const list = element("div.fields");
    const schemaAt = (index) => prefixItems[index] ?? (items === true || items === false ? {} : items);
    const number = () => {
      button.disabled = prefixItems.length > 0 && items === false && controls.length >= prefixItems.length;
      button.title = controls.length >= maxItems ? `The schema allows ${maxItems}` : "";
    };
    const show = (values) => {
      controls.length = 0;
      controls.push(
        ...values.map((value, index) => {
          const label = `${place.label}[${index}]`;
          const remover = this.#remover(label, () => {
            if (!change((present) => present.filter((_, position) => position !== index))) return;
            button.focus();
          });
          return this.control({ schema: schemaAt(index), label, value, required: true, actions: [remover] });
        }),
      );
      list.replaceChildren(...controls.map((control) => control.node));
      number();
    };
    const readAll = () => controls.map((control) => control.read());
    const change = (changeValues) => {
      let values;
      try {
        values = changeValues(readAll());
      } catch (fault) {
        fault.node?.focus(); // a field that cannot be read says so itself, and must not be lost
        return false;
      }
      show(values);
      changed(list);
      return true;
    };
    const button = element("button.small.add", { type: "button" }, "+ item");
    button.setAttribute("aria-label", `Add an item to ${place.label || "the list"}`);
    button.onclick = () => {
      const added = exampleOfAdded(this.schemas, schemaAt(controls.length));
      if (change((present) => [...present, added])) focusFirst(controls.at(-1).node);
    };
    show(place.value);
    return { node: this.#group(place, list, element("div.adders", button)), read: readAll };
  }

  #row(place, input, note) {
    input.id = newId("field");
    if (place.required) input.setAttribute("aria-required", "true");
    const label = element("label", { htmlFor: input.id }, place.label || "value");
    const head = element("div.field-head", label, ...this.#notes(place, note), ...(place.actions ?? []));
    return element("div.field", head, input, this.#hint(place, input));
  }

  #notes(place, note) {
    const type = note ?? this.schemas.typeName(place.schema);
    return [element("span.type", type), place.required && element("span.required", { title: "Required" }, "required")];
  }

  #hint(place, input) {
    const { description } = this.schemas.resolve(place.schema);
    const words = this.schemas.kind(place.schema) === "enum" ? [] : this.schemas.constraints(place.schema);
    if (!description && words.length === 0) return null;
    const hint = element(
      "p.hint",
      { id: newId("hint") },
      description ? inline(description) : "",
      description && words.length ? " · " : "",
      words.join(" · "),
    );
    input.setAttribute("aria-describedby", hint.id);
    return hint;
  }

  #group(place, ...children) {
    if (!place.label) return element("div.form-root", children);
    const { description } = this.schemas.resolve(place.schema);
    const type = element("span.type", this.schemas.typeName(place.schema));
    const legend = element("legend", element("span.name", place.label), type, ...(place.actions ?? []));
    return element(
      "fieldset",
      { "aria-label": place.label },
      legend,
      description && element("p.hint", inline(description)),
      children,
    );
  }

  #remover(name, remove) {
    const button = element("button.remove", { type: "button", title: `Remove ${name}` }, "×");
    button.setAttribute("aria-label", `Remove ${name}`);
    button.onclick = remove;
    return button;
  }
}

/** Whether a control of this kind can hold the value. */
function suits(kind, value) {
  const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
  switch (kind) {
    case "object":
    case "map":
      return isObject;
    case "array":
      return Array.isArray(value);
    case "string":
      return typeof value === "string";
    case "integer":
    case "number":
      return typeof value === "number";
    case "boolean":
      return typeof value === "boolean";
    case "null":
      return value === null;
    default:
      return true;
  }
}

/** Put the field where the schema has it; what the schema does not know comes last. */
function insertInOrder(list, fields, order, name) {
  const later = order.slice(order.indexOf(name) + 1).find((other) => order.includes(name) && fields.has(other));
  list.insertBefore(fields.get(name).node, later ? fields.get(later).node : null);
}

function changed(node) {
  node.dispatchEvent(new Event("input", { bubbles: true }));
}

function focusFirst(node) {
  node.querySelector("input:not([readonly]), select, textarea, button")?.focus();
}

function text(value) {
  return typeof value === "string" ? value : JSON.stringify(value);
}
