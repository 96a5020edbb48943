/** The list of endpoints and channels, with search and tags, and of the connections that are open. */
import { element, fill, newId } from "./element.js";

const MANY = 6;

export class Navigation {
  /** Called when what `finds` says has changed. */
  onfilter = () => {};
  #entries;
  #tag = "";
  #search = element("input", {
    type: "search",
    id: newId("search"),
    placeholder: "Search",
    autocomplete: "off",
    spellcheck: false,
  });
  #tags = element("div.tags", { role: "group", "aria-label": "Tags" });
  #list = element("div.groups");
  #found = element("p.quiet.found", { role: "status" });
  #connections = element("div.groups");
  #current = "";

  constructor(node, entries) {
    this.#entries = entries;
    const names = [...new Set(entries.flatMap(({ tags }) => tags))].sort((one, other) => one.localeCompare(other));
    const isLong = entries.length >= MANY || names.length > 1;
    fill(
      node,
      isLong &&
        element("div.search", element("label.visually-hidden", { htmlFor: this.#search.id }, "Search"), this.#search),
      names.length > 1 && this.#tags,
      this.#found,
      this.#list,
      this.#connections,
    );
    this.#search.oninput = () => this.#show();
    fill(
      this.#tags,
      names.map((name) => this.#tagButton(name)),
    );
    this.#show();
  }

  /** Go to the search field; false if there is none. */
  focusSearch() {
    this.#search.focus();
    return document.activeElement === this.#search;
  }

  mark(key) {
    this.#current = key;
    this.#show();
  }

  /** Show which connections there are. */
  connections(panels) {
    fill(
      this.#connections,
      panels.length > 0 && element("h2", "Connections"),
      panels.length > 0 &&
        element(
          "ul",
          panels.map((panel) =>
            element(
              "li",
              element(
                "a.connection",
                { href: `#${panel.entry.key}/try/${panel.number}`, dataset: { state: panel.state } },
                element("span.dot", { "aria-hidden": "true" }),
                element("span", panel.name),
                element("span.quiet", panel.entry.title),
              ),
            ),
          ),
        ),
    );
  }

  #tagButton(name) {
    const button = element("button.tag", { type: "button", "aria-pressed": "false" }, name);
    button.onclick = () => {
      this.#tag = this.#tag === name ? "" : name;
      for (const one of this.#tags.children)
        one.setAttribute("aria-pressed", String(one === button && this.#tag !== ""));
      this.#show();
    };
    return button;
  }

  /** Whether an entry has the tag that is chosen and the text that is looked for. */
  finds(entry) {
    return (!this.#tag || entry.tags.includes(this.#tag)) && words(entry).includes(this.#wanted);
  }

  get #wanted() {
    return this.#search.value.trim().toLowerCase();
  }

  #show() {
    const found = this.#entries.filter((entry) => this.finds(entry));
    fill(
      this.#list,
      group(
        "Endpoints",
        found.filter(({ kind }) => kind === "endpoint"),
        this.#current,
      ),
      group(
        "Channels",
        found.filter(({ kind }) => kind === "channel"),
        this.#current,
      ),
    );
    const isFiltered = this.#wanted !== "" || this.#tag !== "";
    this.#found.textContent = isFiltered
      ? found.length
        ? `${found.length} of ${this.#entries.length}`
        : "Nothing is found."
      : "";
    this.onfilter();
  }
}

/** What the search looks at. */
function words(entry) {
  const messages = [...entry.sent, ...entry.received].map(({ title }) => title);
  return [entry.key, entry.title, entry.address, entry.summary, entry.description, ...entry.tags, ...messages]
    .join("\n")
    .toLowerCase();
}

function group(title, entries, current) {
  if (entries.length === 0) return null;
  return [
    element("h2", title),
    element(
      "ul",
      entries.map((entry) => {
        const link = element(
          "a",
          { href: `#${entry.key}` },
          element("code", addressNodes(entry.address)),
          element("span.quiet", entry.summary || (entry.title === entry.address ? "" : entry.title)),
        );
        if (entry.key === current) link.setAttribute("aria-current", "page");
        return element("li", link);
      }),
    ),
  ];
}

/** An address with places to break it, and its parameters set off. */
export function addressNodes(address) {
  return address
    .split(/(\{[^{}]+\})/)
    .map((part) =>
      part.startsWith("{")
        ? element("span.parameter", part)
        : part.split(/(?<=[/:])/).flatMap((piece, index) => (index ? [element("wbr"), piece] : [piece])),
    );
}
