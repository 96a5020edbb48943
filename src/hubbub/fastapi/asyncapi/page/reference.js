/** What the document says of an endpoint or a family of channels, to read. */
import { copyButton } from "./clipboard.js";
import { element, inline, newId, prose } from "./element.js";
import { exampleOfMessage } from "./example.js";
import { schemaView, signature } from "./fields.js";
import { bytes, count, invalidInWords, limitInWords, policyInWords, seconds, shown } from "./words.js";

const OPEN_AT_MOST = 3;

export function referenceView(schemas, entry) {
  return element(
    "div.reference",
    parameterSection(schemas, entry),
    messageSection(schemas, entry),
    element(
      "div.facts",
      element(
        "div",
        section("Limits", facts(entry)),
        section("Rejected handshakes", codes("Status", entry.refusals)),
      ),
      element("div", section("Close codes", codes("Code", entry.closeCodes))),
    ),
  );
}

/** A heading and what stands below it; nothing if there is nothing. */
function section(title, ...children) {
  const present = children.flat().filter(Boolean);
  if (present.length === 0) return null;
  const id = newId();
  return element("section.section", { "aria-labelledby": id }, element("h2", { id }, title), present);
}

function parameterSection(schemas, { parameters, credentials }) {
  const rows = parameters.map((parameter) => parameterRow(schemas, parameter));
  const proofs = credentials.map(({ title, name, place, prefix, description }) =>
    element(
      "li.row",
      element(
        "span.field-line",
        element("code.name", name),
        element("span.type", title),
        element("span.place", place),
        element("span.place", "security"),
      ),
      element(
        "div",
        description && element("p", inline(description)),
        prefix && element("p.hint", `sent as ${prefix.trim()}`),
        place !== "query" && element("p.hint", "A browser cannot send it with a WebSocket; the code to copy does."),
      ),
    ),
  );
  if (rows.length + proofs.length === 0) return null;
  return section("Parameters", element("ul.card", rows, proofs));
}

function parameterRow(schemas, { name, place, schema, required, slashes }) {
  const resolved = schemas.resolve(schema);
  const words = [...schemas.constraints(schema), ...(slashes ? ["may have slashes"] : [])];
  return element(
    "li.row",
    element(
      "span.field-line",
      element("code.name", name),
      element("span.type", schemas.typeName(schema)),
      required && element("span.required", "required"),
      element("span.place", place),
    ),
    element(
      "div",
      resolved.description && element("p", inline(resolved.description)),
      words.length > 0 && element("p.hint", words.join(" · ")),
      resolved.examples?.length > 0 &&
        element("p.hint", "for example ", element("code", resolved.examples.map(shown).join(", "))),
    ),
  );
}

function messageSection(schemas, entry) {
  const isChannel = entry.kind === "channel";
  const labels = isChannel ? ["May be published", "Subscribers receive"] : ["Client sends", "Client receives"];
  return element(
    "div.directions",
    direction(schemas, labels[0], "sent", entry.sent, invalidInWords(entry.onInvalid)),
    direction(schemas, labels[1], "received", entry.received, ""),
  );
}

function direction(schemas, title, name, messages, note) {
  const id = newId();
  const isShort = messages.length <= OPEN_AT_MOST;
  return element(
    `section.section.${name}`,
    { "aria-labelledby": id },
    element("h2", { id }, element("span.arrow", { "aria-hidden": "true" }, name === "sent" ? "↑" : "↓"), title),
    note && element("p.hint", note),
    messages.length === 0 && element("p.quiet", "No message is declared."),
    messages.map((message) => messageCard(schemas, message, isShort)),
  );
}

function messageCard(schemas, message, isOpen) {
  const { problem, format } = message;
  const details = element(
    "details.message.card",
    { open: isOpen },
    element(
      "summary",
      element("span.message-name", message.title),
      element("code.signature", signature(schemas, message)),
    ),
  );
  const show = () => {
    if (!details.open || details.childElementCount > 1) return;
    details.append(
      element(
        "div.message-body",
        prose(message.summary),
        prose(message.description),
        problem && element("p.notice.warn", problem),
        !problem && format === "json" && schemaView(schemas, message.schema),
        !problem && format !== "binary" && examplesOf(schemas, message),
      ),
    );
  };
  details.ontoggle = show;
  show();
  return details;
}

function examplesOf(schemas, message) {
  const examples = message.examples.length ? message.examples : [exampleOfMessage(schemas, message)];
  return examples.map((example) => {
    const text = message.format === "json" ? JSON.stringify(example, null, 2) : shown(example);
    return element(
      "div.example",
      element(
        "div.example-head",
        element("span.quiet", "Example"),
        copyButton("Copy", () => text),
      ),
      element("pre", { tabIndex: 0, "aria-label": `Example of ${message.title}` }, text),
    );
  });
}

function facts({ limits, outbox, history, presence, policy }) {
  const lines = Object.entries(limits).map(([name, value]) => [
    element("code", name),
    limitInWords(name, value),
  ]);
  if (outbox?.bytes)
    lines.push(["Outbox", `${bytes(outbox.bytes)}, then ${policyInWords(String(outbox.policy))}`]);
  if (policy) lines.push(["For a slow client", policyInWords(policy)]);
  if (history) lines.push(["History", `${count(history.size)} publications for ${seconds(history.ttl_s)}`]);
  if (presence) lines.push(["Presence", `who leaves is missed after ${seconds(presence.grace_s)}`]);
  if (lines.length === 0) return null;
  return element(
    "dl.card.facts-list",
    lines.map(([label, value]) => element("div", element("dt", label), element("dd", value))),
  );
}

/** A table of codes, each with what it means and the word that goes with it. */
function codes(head, list) {
  if (list.length === 0) return null;
  return element(
    "div.card",
    element(
      "table",
      element("thead", element("tr", element("th", { scope: "col" }, head), element("th", { scope: "col" }, "When"))),
      element(
        "tbody",
        list.map(({ code, word, description }) =>
          element(
            "tr",
            element("td", String(code)),
            element("td", description, word && [" ", element("code.word", word)]),
          ),
        ),
      ),
    ),
  );
}
