/** Where a message is written: in a form made from its schema, as raw text, or as bytes. */
import { binaryForm } from "./binary.js";
import { element, fill, newId, prose } from "./element.js";
import { exampleOfMessage } from "./example.js";
import { UnreadableField, formFor } from "./form.js";
import { faultsOf } from "./validate.js";

const RAW = { title: "", format: "text", schema: {}, examples: [""] };
const SHOWN_FAULTS = 3;

export class Composer {
  #schemas;
  #messages;
  #message;
  #mode = "form";
  #form = null; // the control of the mode that is shown: {read}
  #raw = element("textarea", { className: "code raw", rows: 7, spellcheck: false, "aria-label": "Raw message" });
  #binary = binaryForm();
  #body = element("div", { className: "composer-body" });
  #about = element("div", {});
  #verdict = element("p", { className: "verdict" });
  #select;
  #modes;

  /** `send(data)` gets text or bytes; the composer says `input` when its message may have changed. */
  constructor(schemas, messages, send) {
    this.#schemas = schemas;
    this.#messages = messages.length ? messages : [RAW];
    this.#select = element("select", { id: newId("message") }, this.#messages.map((message, index) => element("option", { value: String(index) }, message.title)));
    this.#select.onchange = () => this.#choose(this.#messages[Number(this.#select.value)]);
    this.#modes = segments(["form", "Form"], ["raw", "Raw"], ["binary", "Binary"]);
    this.#modes.onchange = () => this.#switch(this.#modes.querySelector("input:checked").value);
    this.sendButton = element("button", { className: "primary", title: "Send (Ctrl+Enter in a text area)" }, "Send");
    const choice = messages.length > 0 && element("div", { className: "field" }, element("label", { htmlFor: this.#select.id }, "Message"), this.#select);
    this.node = element("form", { className: "composer", noValidate: true, autocomplete: "off", "aria-label": "Send a message" },
      messages.length === 0 && element("p", { className: "hint" }, "The document names no message that this endpoint takes."),
      element("div", { className: "composer-head" }, choice, this.#modes), this.#about, this.#body, this.#verdict,
      element("div", { className: "actions" }, this.sendButton));
    this.node.onsubmit = (submitted) => {
      submitted.preventDefault();
      this.#submit(send);
    };
    this.node.onkeydown = (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.node.requestSubmit();
    };
    this.node.addEventListener("input", () => this.#judge());
    this.#choose(this.#messages[0]);
  }

  /** The message as it would be sent: `{text}` or `{bytes}`. Throws an Error that says why there is none. */
  current() {
    if (this.#mode === "binary") return { bytes: this.#form.read() };
    if (this.#mode === "raw") return { text: this.#raw.value };
    return { text: JSON.stringify(this.#form.read()) };
  }

  /** Put something that was sent before into the raw field. */
  edit(data) {
    if (typeof data !== "string") return;
    this.#raw.value = data;
    this.#show("raw");
    this.#raw.focus();
  }

  #choose(message) {
    this.#message = message;
    fill(this.#about, prose(message.summary, "hint"), prose(message.description, "hint"));
    const example = exampleOfMessage(this.#schemas, message);
    this.#raw.value = message.format === "json" ? JSON.stringify(example, null, 2) : String(example);
    const [form] = this.#modes.children;
    form.hidden = message.format !== "json";
    this.#fillForm(example);
    this.#show({ json: this.#mode === "raw" ? "raw" : "form", text: "raw", binary: "binary" }[message.format]);
  }

  #fillForm(value) {
    this.structured = this.#message.format === "json" ? formFor(this.#schemas, this.#message.schema, value) : null;
  }

  /** Go to another mode with the message that is there. */
  #switch(mode) {
    try {
      if (mode === "raw" && this.#mode === "form") this.#raw.value = JSON.stringify(this.#form.read(), null, 2);
      if (mode === "form" && this.#mode === "raw") this.#fillForm(JSON.parse(this.#raw.value));
    } catch (fault) {
      this.#modes.querySelector(`[value=${this.#mode}]`).checked = true;
      this.#modes.querySelector(`[value=${this.#mode}]`).focus();
      this.#say(fault instanceof UnreadableField ? `${fault.message}.` : "This text is not JSON, so that no form can show it.", true);
      return;
    }
    this.#show(mode);
  }

  #show(mode) {
    this.#mode = mode;
    this.#modes.querySelector(`[value=${mode}]`).checked = true;
    this.#form = mode === "binary" ? this.#binary : this.structured;
    fill(this.#body, mode === "raw" ? this.#raw : this.#form.node);
    this.node.dispatchEvent(new Event("input"));
  }

  #submit(send) {
    let message;
    try {
      message = this.current();
    } catch (fault) {
      this.#say(`${fault.message.replace(/\.$/, "")}.`, true);
      fault.node?.focus();
      return;
    }
    send(message.bytes ?? message.text);
  }

  /** Say whether the message fits its schema. It may be sent in any case: that is how one sees the server's answer. */
  #judge() {
    if (this.#message.format !== "json" || this.#mode === "binary") return this.#say("");
    let value;
    try {
      value = JSON.parse(this.current().text);
    } catch (fault) {
      return this.#say(fault instanceof UnreadableField ? `${fault.message}.` : "Not JSON. It can be sent all the same.", true);
    }
    const faults = faultsOf(this.#schemas, this.#message.schema, value);
    if (faults.length === 0) return this.#say("");
    const words = faults.slice(0, SHOWN_FAULTS).map(({ path, message }) => `${pathText(path) || "it"} ${message}`);
    const more = faults.length > SHOWN_FAULTS ? `, and ${faults.length - SHOWN_FAULTS} more` : "";
    this.#say(`Does not fit ${this.#message.title}: ${words.join("; ")}${more}. It can be sent all the same.`, true);
  }

  #say(words, isFault = false) {
    this.#verdict.textContent = words;
    this.#verdict.classList.toggle("fault", isFault);
  }
}

function segments(...choices) {
  const group = newId("mode");
  return element("div", { className: "segments", role: "radiogroup", "aria-label": "How to write it" }, choices.map(([value, label]) => element("label", {},
    element("input", { type: "radio", name: group, value }), element("span", {}, label))));
}

function pathText(path) {
  return path.map((part, index) => (typeof part === "number" ? `[${part}]` : index ? `.${part}` : part)).join("");
}
