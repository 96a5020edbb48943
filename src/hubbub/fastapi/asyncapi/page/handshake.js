/** The form for a handshake: parameters, credentials and subprotocols of an endpoint. */
import { codeView } from "./code.js";
import { aboutLine, element, labelFor, newId } from "./element.js";
import { keyOf, requestFor } from "./request.js";
import { parameterFault } from "./validate.js";
import { shown } from "./words.js";

const ONLY_IN_CODE = {
  header: "A browser cannot send headers with a WebSocket: they are in the code to copy.",
  cookie: "A browser sends the cookies that it has for this host, and no others: these are in the code to copy.",
};
const FEW = 3; // as many as stand on one line
const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/; // RFC 9110, section 5.6.2

export class HandshakeForm {
  #schemas;
  #entry;
  #root;
  #fields;
  #protocols;
  #summary = element("p.verdict.fault", { role: "alert" });
  #anyway;

  /** `connect(request)` is called with the request; `root` is the address at which the application begins. */
  constructor(schemas, entry, root, connect) {
    this.#schemas = schemas;
    this.#entry = entry;
    this.#root = root;
    this.#fields = [...entry.parameters, ...entry.credentials].map((parameter) => this.#field(parameter));
    this.#protocols = this.#protocolField();
    this.#anyway = element(
      "button",
      { hidden: true, onclick: () => this.#connect(connect, true) },
      "Connect anyway",
    );
    const code = codeView(() => ({ request: this.request() }));
    const inURL = this.#fields.filter(({ parameter }) => parameter.place === "path" || parameter.place === "query");
    const elsewhere = this.#fields.filter((field) => !inURL.includes(field));
    const first = inURL.length <= FEW ? inURL : inURL.filter(({ parameter }) => parameter.required || parameter.secret);
    const optional = inURL.filter((field) => !first.includes(field));
    this.node = element(
      "form.handshake.card",
      { noValidate: true, autocomplete: "off", spellcheck: "false", "aria-label": `Connect to ${entry.address}` },
      grid(first),
      element(
        "div.disclosures",
        optional.length > 0 && more(`Optional: ${namesOf(optional)}`, grid(optional)),
        elsewhere.length > 0 &&
          more(`Headers and cookies: ${namesOf(elsewhere)}`, element("p.hint", notes(elsewhere)), grid(elsewhere)),
        more("Subprotocols", this.#protocols.node),
        code.node,
      ),
      this.#summary,
      element("div.actions", element("button.primary", { type: "submit" }, "Connect"), this.#anyway),
    );
    this.node.onsubmit = (submitted) => {
      submitted.preventDefault();
      this.#connect(connect, false);
    };
    this.node.addEventListener("input", () => {
      this.#summary.textContent = "";
      this.#anyway.hidden = true;
      code.update();
    });
  }

  request() {
    const values = Object.fromEntries(this.#fields.map(({ parameter, input }) => [keyOf(parameter), input.value]));
    return requestFor(this.#schemas, this.#entry, values, this.#protocols.read(), this.#root);
  }

  #connect(connect, anyway) {
    const faulty = [...this.#fields, this.#protocols].filter((field) => !field.check());
    // A subprotocol that is none cannot be tried: the browser itself refuses it.
    const isStopped = anyway ? faulty.includes(this.#protocols) : faulty.length > 0;
    this.#anyway.hidden = faulty.length === 0 || faulty.includes(this.#protocols);
    this.#summary.textContent = isStopped
      ? `${faulty.length === 1 ? "One field does" : `${faulty.length} fields do`} not fit.`
      : "";
    if (!isStopped) return connect(this.request());
    for (const { node } of faulty) (node.closest("details") ?? {}).open = true;
    faulty[0].input.focus();
  }

  #field(parameter) {
    const { name, place, schema, required, secret } = parameter;
    const input = inputFor(this.#schemas, parameter);
    const fault = element("p.fault", { id: newId() });
    const hint = element("p.hint", { id: newId() }, hintFor(this.#schemas, parameter));
    input.setAttribute("aria-describedby", `${hint.id} ${fault.id}`);
    const isNeeded = required && (place === "path" || place === "query");
    if (isNeeded) input.setAttribute("aria-required", "true");
    const check = () => {
      // What a browser cannot send cannot keep it from connecting.
      const isAsked = isNeeded || input.value !== "";
      const words = input.validity?.badInput
        ? "must be a number"
        : isAsked
          ? parameterFault(this.#schemas, parameter, input.value)
          : null;
      fault.textContent = words ? `${name} ${words}` : "";
      if (words) input.setAttribute("aria-invalid", "true");
      else input.removeAttribute("aria-invalid");
      return !words;
    };
    // Only what was found at fault is looked at again: a fault that came as one leaves a field would move the button.
    input.addEventListener("input", () => {
      if (input.hasAttribute("aria-invalid")) check();
    });
    const head = element(
      "div.field-head",
      labelFor(input, name),
      element("span.type", secret ? parameter.title : this.#schemas.typeName(schema)),
      required && element("span.required", "required"),
      element("span.place", place),
    );
    return { parameter, input, check, node: element("div.field", head, input, hint, fault) };
  }

  #protocolField() {
    const fault = element("p.fault", { id: newId() });
    const input = element("input", { placeholder: "chat.v2, chat.v1", "aria-describedby": fault.id });
    const read = () => input.value.split(/[\s,]+/).filter(Boolean);
    const check = () => {
      const names = read();
      const fits = names.every((name) => TOKEN.test(name)) && new Set(names).size === names.length;
      fault.textContent = fits ? "" : "Subprotocols are names without spaces and special characters, each once.";
      return fits;
    };
    const label = labelFor(input, "Offered to the server, the preferred one first");
    return { input, read, check, node: element("div.field", label, input, fault) };
  }
}

function grid(fields) {
  return (
    fields.length > 0 &&
    element(
      "div.grid",
      fields.map(({ node }) => node),
    )
  );
}

function more(title, ...children) {
  return element("details.more", element("summary", title), children);
}

function namesOf(fields) {
  return fields.map(({ parameter }) => parameter.name).join(", ");
}

function inputFor(schemas, { schema, required, secret }) {
  const resolved = schemas.resolve(schema);
  const choices = schemas.alternatives(schema).filter((choice) => schemas.kind(choice) !== "null");
  const kind = choices.length === 1 ? schemas.kind(choices[0]) : "string";
  const example = resolved.examples?.[0] ?? resolved.default ?? undefined;
  // A secret is never kept by the browser, nor shown; with a name of its own no browser fills it in.
  if (secret) return element("input", { type: "password", name: newId() });
  if (kind === "enum" || kind === "boolean" || kind === "const") {
    const inner = schemas.resolve(choices[0]);
    const values = kind === "boolean" ? [true, false] : (inner.enum ?? [inner.const]);
    const select = element(
      "select",
      !required && element("option", { value: "" }, "(left out)"),
      values.map((value) => element("option", shown(value))),
    );
    if (required && example !== undefined) select.value = shown(example);
    return select;
  }
  if (kind === "array") return element("textarea", { rows: 2, placeholder: "one a line" });
  const value = required && resolved.examples?.length ? shown(resolved.examples[0]) : "";
  const isEmpty = example === undefined || example === "" || value;
  const placeholder = isEmpty ? "" : `${required ? "for example " : ""}${shown(example)}`;
  const type = kind === "integer" || kind === "number" ? "number" : "text";
  const input = element("input", { type, value, placeholder, autocapitalize: "none" });
  if (type === "number") input.step = "any";
  return input;
}

function hintFor(schemas, { schema, description, type, prefix, slashes, basic }) {
  const words = schemas.constraints(schema);
  if (slashes) words.push("may have slashes");
  if (prefix) words.push(basic ? "user:password" : `sent as ${prefix.trim()}`);
  if (type === "oauth2" || type === "openIdConnect") words.push("the access token");
  return aboutLine(description ?? schemas.resolve(schema).description, words);
}

function notes(fields) {
  const places = new Set(fields.map(({ parameter }) => parameter.place));
  return [...places].map((place) => ONLY_IN_CODE[place]).join(" ");
}
