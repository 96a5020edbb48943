/** The list of endpoints and channels, with search and tags, and of the connections that are open. */
import { element, fill, labelFor } from "./element.js";

const MANY = 6;

export class Navigation {
  /** Called when what `finds` says has changed. */
  onfilter = () => {};
  #entries;
  #tag = "";
  #search = element("input", { type: "search", placeholder: "Search", autocomplete: "off", spellcheck: "false" });
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
      isLong && element("div", labelFor(this.#search, element("span.visually-hidden", "Search")), this.#search),
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

  mark(key) {
    this.#current = key;
    this.#show();
    this.#list.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest" });
  }

  /** Show which connections there are. */
  connections(panels) {
    fill(
      this.#connections,
      panels.length > 0 && element("h2", "Connections"),
      panels.length > 0 &&
        element(
          "ul",
          panels.map(({ link }) => element("li", link)),
        ),
    );
  }

  #tagButton(name) {
    const onclick = () => {
      this.#tag = this.#tag === name ? "" : name;
      for (const one of this.#tags.children)
        one.setAttribute("aria-pressed", String(one === button && this.#tag !== ""));
      this.#show();
    };
    const button = element("button.tag", { "aria-pressed": "false", onclick }, name);
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
        : "No match."
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
      entries.map(({ key, address, caption }) =>
        element(
          "li",
          element(
            "a",
            { href: `#${key}`, "aria-current": key === current ? "page" : null },
            element("code", addressNodes(address)),
            element("span.quiet", caption),
          ),
        ),
      ),
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
