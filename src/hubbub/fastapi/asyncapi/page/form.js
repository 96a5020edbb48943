/**
 * A form for a JSON value, made from its schema.
 *
 * Every control is `{node, read}`: what stands in the page, and a function that gives its value. A control is made for
 * a value that is there: parts that are optional or repeated are added by buttons, so that recursive schemas have an
 * end. A value that does not have the schema's type is kept as it is, as JSON text: a form never changes what it is
 * given.
 */
import { aboutLine, element, inline, labelFor, newId } from "./element.js";
import { exampleOf, exampleOfAdded } from "./example.js";
import { faultsOf, likely, suits } from "./validate.js";
import { shown } from "./words.js";

const GROUPS = new Set(["object", "map", "array"]);

/** A field of the form has text that is not JSON. */
export class UnreadableField extends Error {
  constructor(label, node, words = "is not JSON") {
    super(`${label} ${words}.`);
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
    const input = element("input.fixed", { value: shown(fixed), readOnly: true, title: "Always this value" });
    const label = labelFor(input, place.label || "value");
    const node = element("div.field", element("div.field-head.constant", label, input, place.actions));
    return { node, read: () => fixed };
  }

  enum(place) {
    const choices = this.schemas.resolve(place.schema).enum;
    const chosen = choices.findIndex((choice) => choice === place.value);
    if (chosen < 0) return this.json(place);
    const select = element(
      "select",
      choices.map((choice, index) => element("option", { value: String(index) }, shown(choice))),
    );
    select.value = String(chosen);
    return { node: this.#row(place, select), read: () => choices[Number(select.value)] };
  }

  boolean(place) {
    const box = element("input", { type: "checkbox", checked: place.value });
    const head = element("div.field-head", box, labelFor(box, place.label || "true"), this.#notes(place), place.actions);
    const node = element("div.field", head, this.#hint(place, box));
    return { node, read: () => box.checked };
  }

  string(place) {
    const { format, pattern } = this.schemas.resolve(place.schema);
    if (place.value.includes("\r")) return this.json(place); // a text area would change it
    const isLine = format && !place.value.includes("\n");
    const input = isLine
      ? element("input", { value: place.value })
      : element("textarea.text", { value: place.value, rows: Math.min(9, place.value.split("\n").length) });
    if (!format && !pattern) input.spellcheck = true;
    return { node: this.#row(place, input), read: () => input.value };
  }

  number(place) {
    const input = element("input", { type: "number", value: String(place.value) });
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
    const input = element("textarea.code", { rows: 3, value: JSON.stringify(place.value ?? null, null, 2) });
    const fault = element("p.fault", { id: newId() });
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
    const near = likely(this.schemas, choices, place.value);
    const isFitting = (choice) => faultsOf(this.schemas, choice, place.value).length === 0;
    const current = choices.indexOf((near.length > 1 && near.find(isFitting)) || near[0]);
    const names = choices.map((choice) => this.schemas.typeName(choice));
    const label = place.label || "value";
    const select = element(
      "select.small",
      { "aria-label": `Kind of ${label}` },
      names.map((name, index) => element("option", { value: String(index) }, name)),
    );
    select.value = String(current);
    const slot = element("div.slot", { role: "group", "aria-label": label });
    let inner;
    const show = (value) => {
      const chosen = choices[Number(select.value)];
      const kind = this.schemas.kind(chosen);
      const inside = GROUPS.has(kind) ? "" : place.label; // the slot has the label of a group already
      inner = this.control({ schema: chosen, label: inside, required: place.required, value });
      slot.replaceChildren(kind === "null" ? "" : inner.node);
    };
    select.onchange = () => {
      show(exampleOf(this.schemas, choices[Number(select.value)], place.label));
      changed(slot);
    };
    show(place.value);
    const head = element("div.field-head", element("span.name", label), select, place.actions);
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
            const onclick = () => {
              add(name, exampleOfAdded(this.schemas, properties[name], name));
              offer();
              changed(list);
              focusFirst(fields.get(name).node);
            };
            return element("button.small.add", { "aria-label": `Add ${name}`, onclick }, `+ ${name}`);
          }),
      );
    for (const [name, value] of Object.entries(place.value)) add(name, value);
    offer();
    const read = () => Object.fromEntries([...fields].map(([name, field]) => [name, field.read()]));
    return { node: this.#group(place, list, buttons), read };
  }

  map(place) {
    const { additionalProperties } = this.schemas.resolve(place.schema);
    const entries = new Set(); // {input, control}
    const list = element("div.fields");
    let number = 0; // tells the entries apart, whatever their keys become
    const keys = () => [...entries].map(({ input }) => input.value);
    const add = (key, value) => {
      number += 1;
      while (key === undefined && keys().includes(`key${number}`)) number += 1;
      const input = element("input", { value: key ?? `key${number}`, "aria-label": `Key ${number}` });
      const label = `value ${number}`;
      const control = this.control({ schema: additionalProperties, label, value, required: true });
      const entry = { input, control };
      const remover = this.#remover(`entry ${number}`, () => {
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
    const onclick = () => {
      const row = add(undefined, exampleOfAdded(this.schemas, additionalProperties));
      changed(list);
      focusFirst(row);
    };
    const name = `Add an entry to ${place.label || "the message"}`;
    const button = element("button.small.add", { "aria-label": name, onclick }, "+ entry");
    const node = this.#group(place, list, element("div.adders", button));
    const read = () => {
      const again = [...entries].find(({ input }, index) => keys().indexOf(input.value) < index);
      if (again) throw new UnreadableField(again.input.value, again.input, "is there twice");
      return Object.fromEntries([...entries].map(({ input, control }) => [input.value, control.read()]));
    };
    return { node, read };
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
    const onclick = () => {
      const added = exampleOfAdded(this.schemas, schemaAt(controls.length));
      if (change((present) => [...present, added])) focusFirst(controls.at(-1).node);
    };
    const name = `Add an item to ${place.label || "the list"}`;
    const button = element("button.small.add", { "aria-label": name, onclick }, "+ item");
    show(place.value);
    return { node: this.#group(place, list, element("div.adders", button)), read: readAll };
  }

  #row(place, input, note) {
    if (place.required) input.setAttribute("aria-required", "true");
    const label = labelFor(input, place.label || "value");
    const head = element("div.field-head", label, this.#notes(place, note), place.actions);
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
    const hint = element("p.hint", { id: newId() }, aboutLine(description, words));
    input.setAttribute("aria-describedby", hint.id);
    return hint;
  }

  #group(place, ...children) {
    if (!place.label) return element("div.form-root", children);
    const { description } = this.schemas.resolve(place.schema);
    const type = element("span.type", this.schemas.typeName(place.schema));
    const legend = element("legend", element("span.name", place.label), type, place.actions);
    return element(
      "fieldset",
      { "aria-label": place.label },
      legend,
      description && element("p.hint", inline(description)),
      children,
    );
  }

  #remover(name, remove) {
    const title = `Remove ${name}`;
    return element("button.remove", { title, "aria-label": title, onclick: remove }, "×");
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
