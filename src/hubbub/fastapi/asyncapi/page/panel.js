/** One connection on the page: how it is, what to send, and what went over it. */
import { codeView } from "./code.js";
import { Composer } from "./composer.js";
import { Connection } from "./connection.js";
import { element, fill, newId } from "./element.js";
import { LogView } from "./log.js";
import { recogniser } from "./recognise.js";
import { closeMeaning } from "./words.js";

const STATES = { connecting: "Connecting…", open: "Open", closing: "Closing…", closed: "Closed" };

export class Panel extends EventTarget {
  #heading;
  #state = element("span.state");
  #end = element("div.end");
  #status = element("p.visually-hidden", { role: "status" });
  #button = element("button.small");
  #composer;
  #view;

  /** Event: `removed`. `link` leads here; its `data-state` is that of the connection. */
  constructor(schemas, entry, request, number) {
    super();
    this.entry = entry;
    this.number = number;
    this.name = `Connection ${number}`;
    this.connection = new Connection(request);
    this.#composer = new Composer(schemas, entry.sent, (data) => this.connection.send(data));
    const code = codeView(() => ({ request, message: this.#composer.current() }));
    this.#composer.node.addEventListener("input", () => code.update());
    const recognise = { sent: recogniser(schemas, entry.sent), received: recogniser(schemas, entry.received) };
    this.#view = new LogView(this.connection, `Log of ${this.name}`, recognise, (data, name) =>
      this.#composer.edit(data, name),
    );
    this.#heading = element("h2", { id: newId(), tabIndex: -1 }, this.name);
    const onclick = () => {
      this.connection.close();
      this.node.remove();
      this.dispatchEvent(new Event("removed"));
    };
    const remove = element(
      "button.remove",
      { title: "Close and remove", "aria-label": `Close and remove ${this.name}`, onclick },
      "×",
    );
    this.link = element(
      "a.connection",
      { href: `#${entry.key}/try/${number}` },
      element("span.dot", { "aria-hidden": "true" }),
      element("span", this.name),
      element("span.quiet", entry.title),
    );
    this.node = element(
      "section.panel.card",
      { "aria-labelledby": this.#heading.id },
      element("header.panel-head", this.#heading, this.#state, this.#button, remove),
      element("p.address", shownAddress(request.url, entry)),
      this.#status,
      this.#end,
      element("div.panel-body", element("div.writing", this.#composer.node, code.node), this.#view.node),
    );
    this.connection.addEventListener("state", () => this.#show());
    this.connection.connect();
  }

  focus() {
    this.#heading.focus({ preventScroll: true });
    this.node.scrollIntoView({ block: "nearest" });
  }

  #show() {
    const { state, end } = this.connection;
    this.node.dataset.state = this.link.dataset.state = state;
    this.#state.textContent = end && !end.opened ? "Not connected" : STATES[state];
    this.#composer.sendButton.disabled = state !== "open";
    const isOver = state === "closed";
    this.#button.textContent = isOver ? "Connect again" : state === "connecting" ? "Cancel" : "Disconnect";
    this.#button.setAttribute("aria-disabled", String(state === "closing")); // it may have the focus, and keeps it
    this.#button.setAttribute("aria-label", `${this.#button.textContent}: ${this.name}`);
    this.#button.onclick = () => (isOver ? this.connection.connect() : this.connection.close());
    fill(this.#end, isOver && this.#farewell(end));
    const ending = end ? `, code ${end.code} ${end.reason}`.trimEnd() : "";
    this.#status.textContent = `${this.name}: ${this.#state.textContent}${ending}`;
  }

  #farewell({ code, reason, opened }) {
    if (!opened) return refused(this.entry);
    return element(
      "p.notice",
      element("strong", `${code}${reason ? ` ${reason}` : ""}`),
      " ",
      closeMeaning(code, reason, this.entry.closeCodes),
    );
  }
}

/** A browser does not tell a page why a handshake failed. The document tells what may have been. */
function refused({ refusals }) {
  const items = refusals.map(({ code, description }) =>
    element("li", element("strong", String(code)), ` ${description}`),
  );
  return element(
    "div.notice.bad",
    element(
      "p",
      "The handshake failed. A browser does not tell a page why; the network view of its developer tools does.",
    ),
    items.length > 0 && element("details", element("summary", "How this endpoint refuses"), element("ul.plain", items)),
  );
}

/** The address without what the reader knows already; a secret in it is not shown. */
function shownAddress(url, { credentials }) {
  const shown = new URL(url);
  for (const { place, name } of credentials) {
    if (place === "query" && shown.searchParams.has(name)) shown.searchParams.set(name, "•••");
  }
  return decoded(shown.pathname + shown.search);
}

function decoded(text) {
  try {
    return decodeURI(text);
  } catch {
    return text;
  }
}
