/**
 * The page: it loads the document, and shows what the fragment of the address names: `#chat` is an endpoint,
 * `#chat/try` is where it is tried, `#chat/try/2` the second connection of the page, if it is there.
 */
import { UnreadableDocument, fetchDocument, readDocument } from "./document.js";
import { element, fill, prose } from "./element.js";
import { Navigation, addressNodes } from "./navigation.js";
import { referenceView } from "./reference.js";
import { Trials } from "./trial.js";
import { plural } from "./words.js";

const content = document.getElementById("content");
// Credentials in the page's own address are the browser's to send: `fetch` refuses an address that has any.
const bare = (reference) => Object.assign(new URL(reference, location.href), { username: "", password: "" });
const root = bare(document.documentElement.dataset.base);

// Not by the fragment, which names what is shown.
document.querySelector(".skip").onclick = (event) => {
  event.preventDefault();
  content.focus();
};
start();

async function start() {
  try {
    const known = readDocument(await fetchDocument(bare(document.getElementById("document").href)));
    document.getElementById("version").textContent = known.info.version && `v${known.info.version}`;
    new Page(known).show({ isFirst: true });
  } catch (fault) {
    showFailure(fault);
  }
}

function showFailure(fault) {
  const isLoaded = !(fault instanceof UnreadableDocument);
  const words = isLoaded ? "The document has a form that this page does not know." : fault.message;
  document.body.dataset.view = "alone";
  fill(
    content,
    element(
      "section.empty.card",
      { role: "alert" },
      element("h2", `The document cannot be ${isLoaded ? "shown" : "loaded"}`),
      element("p", `${words} This page reads `, element("a", { href: "asyncapi.json" }, "asyncapi.json"), "."),
      element("button.primary", { onclick: () => location.reload() }, "Try again"),
    ),
  );
  if (isLoaded) throw fault;
}

class Page {
  #info;
  #schemas;
  #entries;
  #navigation;
  #trials;
  #shown = null; // the entry that is shown

  constructor({ info, schemas, entries }) {
    this.#info = info;
    this.#schemas = schemas;
    this.#entries = entries;
    this.#navigation = new Navigation(document.getElementById("navigation"), entries);
    this.#trials = new Trials(schemas, root);
    this.#trials.addEventListener("change", () => this.#navigation.connections(this.#trials.panels));
    addEventListener("hashchange", () => {
      try {
        this.show();
      } catch (fault) {
        showFailure(fault);
      }
    });
  }

  show({ isFirst = false } = {}) {
    const [key, part, number] = location.hash.slice(1).split("/"); // a key has nothing that would be escaped
    const entry = this.#entries.find((one) => one.key === key);
    document.body.dataset.view = this.#entries.length === 0 ? "alone" : entry ? "entry" : "overview";
    document.title = `${entry ? `${entry.address} · ` : ""}${this.#info.title} · Realtime`;
    this.#navigation.mark(key);
    const isTrial = part === "try" && entry?.kind === "endpoint";
    fill(content, entry ? this.#entryView(entry, isTrial) : this.#overview());
    const isOther = this.#shown !== entry;
    this.#shown = entry;
    if (!isFirst) this.#focus(isOther, isTrial && this.#trials.panel(entry, number));
  }

  /** What had the focus is gone: it goes to the connection that was asked for, the chosen tab, or the title. */
  #focus(isOther, panel) {
    if (panel) return panel.focus();
    if (isOther) scrollTo(0, 0);
    content.querySelector(isOther ? "h1" : ".tab[aria-current]")?.focus({ preventScroll: true });
  }

  #entryView(entry, isTrial) {
    const isEndpoint = entry.kind === "endpoint";
    const tab = (label, href, isCurrent) =>
      element("a.tab", { href, "aria-current": isCurrent ? "page" : null }, label);
    return [
      element("a.back", { href: "#" }, "← All endpoints"),
      element(
        "header.entry-head",
        element("p.kind", kindOf(entry)),
        element("h1", { tabIndex: -1 }, addressNodes(entry.address)),
        prose(entry.summary, "summary"),
        prose(entry.description),
        !isEndpoint &&
          element("p.hint", "Clients do not connect to a channel. An endpoint joins their connections to it."),
      ),
      problems(entry.problems),
      isEndpoint &&
        element(
          "nav.tabs",
          { "aria-label": "Views of this endpoint" },
          tab("Reference", `#${entry.key}`, !isTrial),
          tab("Try it", `#${entry.key}/try`, isTrial),
        ),
      isTrial ? this.#trials.view(entry) : referenceView(this.#schemas, entry),
    ];
  }

  #cards() {
    const cards = this.#entries.map((entry) => [entry, card(entry)]);
    const list = element(
      "ul.cards",
      cards.map(([, node]) => node),
    );
    const filter = () => {
      for (const [entry, node] of cards) node.hidden = !this.#navigation.finds(entry);
    };
    this.#navigation.onfilter = filter;
    filter();
    return list;
  }

  #overview() {
    if (this.#entries.length === 0) return emptyView();
    const all = this.#entries.flatMap(({ key, problems: own }) => own.map((problem) => `${key}: ${problem}`));
    const count = (kind) => this.#entries.filter((entry) => entry.kind === kind).length;
    return [
      element(
        "header.entry-head",
        element("h1", { tabIndex: -1 }, this.#info.title),
        element(
          "p.quiet",
          `${plural(count("endpoint"), "endpoint")}, `,
          plural(count("channel"), "family of channels", "families of channels"),
        ),
        prose(this.#info.description),
      ),
      problems(all),
      this.#cards(),
    ];
  }
}

function kindOf({ kind, tags }) {
  return [kind === "endpoint" ? "WebSocket" : "Channel", tags.map((name) => element("span.tag", name))];
}

function card(entry) {
  const counts = [
    [entry.sent, "↑", "messages to send"],
    [entry.received, "↓", "messages to receive"],
  ];
  return element(
    "li",
    element(
      "a.card.entry-card",
      { href: `#${entry.key}` },
      element("span.kind", kindOf(entry)),
      element("code.entry-address", addressNodes(entry.address)),
      element("span.quiet", entry.caption),
      entry.sent.length + entry.received.length > 0 &&
        element(
          "span.counts.quiet",
          counts.map(([messages, arrow, label]) =>
            element(
              "span",
              { title: `${messages.length} ${label}` },
              `${arrow} ${messages.length}`,
              element("span.visually-hidden", ` ${label}`),
            ),
          ),
        ),
    ),
  );
}

function problems(list) {
  if (list.length === 0) return null;
  return element(
    "section.notice.warn",
    { "aria-label": "Problems" },
    element(
      "p",
      element("strong", `${plural(list.length, "thing")} could not be described`),
    ),
    element(
      "ul.plain",
      list.map((problem) => element("li", problem)),
    ),
  );
}

function emptyView() {
  const code = [
    '@app.websocket("/echo")',
    "async def echo(connection: Annotated[Connection[Message, Message], Depends(hub)]) -> None:",
    "    await connection.accept()",
    "    async for message in connection:",
    "        await connection.send(message)",
  ].join("\n");
  return element(
    "section.empty.card",
    element("h1", { tabIndex: -1 }, "There is no endpoint yet"),
    element(
      "p",
      "This page shows the WebSocket endpoints of the application, and tries them out. ",
      "Add one, and load the page again:",
    ),
    element("pre", { tabIndex: 0, "aria-label": "Example" }, code),
    element(
      "p.hint",
      "The types of its messages are those that stand in ",
      element("code", "Connection[In, Out]"),
      ".",
    ),
  );
}
