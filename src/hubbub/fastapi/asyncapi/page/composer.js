/** Where a message is written: in a form made from its schema, as raw text, or as bytes. */
import { binaryForm } from "./binary.js";
import { element, fill, labelFor, prose } from "./element.js";
import { exampleOfMessage } from "./example.js";
import { UnreadableField, formFor } from "./form.js";
import { hasInexactNumber } from "./pretty.js";
import { Segments } from "./segments.js";
import { faultsOf } from "./validate.js";

const RAW = { title: "", summary: "", description: "", format: "text", schema: {}, examples: [""] };
const MODES = [
  ["form", "Form"],
  ["raw", "Raw"],
  ["binary", "Binary"],
];
const SHOWN_FAULTS = 3;

export class Composer {
  #schemas;
  #messages;
  #message;
  #mode = "form";
  #structured = null; // the form for JSON
  #form = null; // the control of the mode that is shown: {read}
  #drafts = new Map(); // message -> its text and mode, kept while another message is written
  #raw = element("textarea.code.raw", { rows: 7, "aria-label": "Raw message" });
  #binary = binaryForm();
  #body = element("div");
  #about = element("div");
  #verdict = element("p.verdict", { "aria-live": "polite" });
  #select;
  #modes;

  /** `send(data)` gets text or bytes, and says whether it was sent. Event of the node: `input`, at every change. */
  constructor(schemas, messages, send) {
    this.#schemas = schemas;
    this.#messages = messages.length ? messages : [RAW];
    this.#select = element(
      "select",
      this.#messages.map((message, index) => element("option", { value: String(index) }, message.title)),
    );
    this.#select.onchange = () => this.#choose(this.#messages[Number(this.#select.value)]);
    this.#modes = new Segments("How to write it", MODES, (mode) => this.#switch(mode));
    this.sendButton = element(
      "button.primary",
      { type: "submit", title: "Send (Ctrl+Enter in a text area)" },
      "Send",
    );
    const choice = messages.length > 0 && element("div.field", labelFor(this.#select, "Message"), this.#select);
    this.node = element(
      "form.composer",
      { noValidate: true, autocomplete: "off", spellcheck: "false", "aria-label": "Send a message" },
      messages.length === 0 && element("p.hint", "The document names no message that this endpoint takes."),
      element("div.composer-head", choice, this.#modes.node),
      this.#about,
      this.#body,
      this.#verdict,
      element("div.actions", this.sendButton),
    );
    this.node.onsubmit = (submitted) => {
      submitted.preventDefault();
      this.#submit(send);
    };
    this.node.onkeydown = (event) => {
      if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
      event.preventDefault(); // in a field of one line a browser may send by itself
      if (!this.sendButton.disabled) this.node.requestSubmit();
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

  /** Put something that was sent before, a message of that title, where it can be changed. */
  edit(data, title) {
    this.#choose(this.#messages.find((message) => message.title === title) ?? this.#message);
    if (typeof data === "string") this.#raw.value = data;
    else this.#binary.write(data);
    this.#show(typeof data === "string" ? "raw" : "binary");
    this.#body.querySelector("textarea").focus();
  }

  #choose(message) {
    if (this.#message) this.#drafts.set(this.#message, this.#draft());
    this.#message = message;
    this.#select.value = String(this.#messages.indexOf(message));
    fill(this.#about, prose(message.summary, "hint"), prose(message.description, "hint"));
    this.#modes.offer("form", message.format === "json");
    const { text, mode } = this.#drafts.get(message) ?? this.#fresh(message);
    this.#raw.value = text;
    if (mode === "form") this.#fillForm(JSON.parse(text));
    this.#show(mode);
  }

  /** A message as it is before somebody has written it: its example. */
  #fresh(message) {
    if (message.problem) return { text: "", mode: "raw" };
    const example = exampleOfMessage(this.#schemas, message);
    if (message.format !== "json") return { text: String(example), mode: message.format === "text" ? "raw" : "binary" };
    return { text: JSON.stringify(example, null, 2), mode: this.#mode === "raw" ? "raw" : "form" };
  }

  #draft() {
    if (this.#mode !== "form") return { text: this.#raw.value, mode: this.#mode };
    try {
      return { text: JSON.stringify(this.#form.read(), null, 2), mode: "form" };
    } catch {
      return this.#fresh(this.#message); // a field had what is not JSON
    }
  }

  #fillForm(value) {
    this.#structured = formFor(this.#schemas, this.#message.schema, value);
  }

  /** Go to another mode with the message that is there. */
  #switch(mode) {
    try {
      if (this.#mode === "form") this.#raw.value = JSON.stringify(this.#form.read(), null, 2);
      if (mode === "form") this.#fillForm(formValue(this.#raw.value));
    } catch (fault) {
      this.#modes.value = this.#mode;
      this.#modes.focus();
      this.#say(fault.message, true);
      return;
    }
    this.#show(mode);
  }

  #show(mode) {
    this.#mode = mode;
    this.#modes.value = mode;
    this.#form = mode === "binary" ? this.#binary : this.#structured;
    fill(this.#body, mode === "raw" ? this.#raw : this.#form.node);
    this.node.dispatchEvent(new Event("input"));
  }

  #submit(send) {
    let message;
    try {
      message = this.current();
    } catch (fault) {
      this.#say(fault.message, true);
      fault.node?.focus();
      return;
    }
    if (!send(message.bytes ?? message.text)) this.#say("There is no connection: nothing was sent.", true);
  }

  /** Say whether the message fits its schema. It may be sent in any case: that is how one sees the server's answer. */
  #judge() {
    if (this.#message.format !== "json" || this.#mode === "binary") return this.#say("");
    let value;
    try {
      value = JSON.parse(this.current().text);
    } catch (fault) {
      const isField = fault instanceof UnreadableField;
      return this.#say(isField ? fault.message : "Not JSON. It can be sent all the same.", true);
    }
    if (this.#mode === "form" && hasInexactNumber(this.current().text)) {
      return this.#say("A form cannot hold so large a number exactly: write it in the raw message.", true);
    }
    const faults = faultsOf(this.#schemas, this.#message.schema, value);
    if (faults.length === 0) return this.#say("");
    const words = faults.slice(0, SHOWN_FAULTS).map(({ path, message }) => `${pathText(path) || "it"} ${message}`);
    const more = faults.length > SHOWN_FAULTS ? `, and ${faults.length - SHOWN_FAULTS} more` : "";
    this.#say(`Does not fit ${this.#message.title}: ${words.join("; ")}${more}. It can be sent all the same.`, true);
  }

  #say(words, isFault = false) {
    // It is read out when it is set, even to what it was.
    if (this.#verdict.textContent !== words) this.#verdict.textContent = words;
    this.#verdict.classList.toggle("fault", isFault);
  }
}

/** What a form can show of a raw message. */
function formValue(text) {
  if (hasInexactNumber(text)) throw new Error("This text has a number that a form cannot hold exactly.");
  try {
    return JSON.parse(text);
  } catch {
    throw new Error("This text is not JSON, so that no form can show it.");
  }
}

function pathText(path) {
  return path.map((part, index) => (typeof part === "number" ? `[${part}]` : index ? `.${part}` : part)).join("");
}
