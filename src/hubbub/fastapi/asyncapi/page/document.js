/**
 * Reads Hubbub's AsyncAPI document into what the page shows: entries, each an endpoint or a family of channels, with its
 * parameters, its credentials and the messages of both directions as the client sees them.
 *
 * Nothing but text leaves here where text is due: an object would be taken for the properties of an element.
 */
import { Schemas, nameOf } from "./schema.js";

const text = (value) => (typeof value === "string" ? value : "");

export class UnreadableDocument extends Error {}

/** Fetch the document. Every failure is an UnreadableDocument whose message is for the reader of the page. */
export async function fetchDocument(url) {
  const response = await fetch(url).catch(() => null);
  if (response === null) throw new UnreadableDocument("The server does not answer.");
  if (!response.ok) throw new UnreadableDocument(`The server answered with status ${response.status}.`);
  const document = await response.json().catch(() => null);
  if (document === null || typeof document !== "object")
    throw new UnreadableDocument("What the server sent is not JSON.");
  if (!/^3\./.test(document.asyncapi ?? "")) {
    throw new UnreadableDocument("What the server sent is not an AsyncAPI 3 document.");
  }
  return document;
}

/** What the page shows of a document. */
export function readDocument(document) {
  const schemas = new Schemas(document);
  const entries = Object.entries(document.channels ?? {}).map(([key, channel]) => readEntry(schemas, key, channel));
  const { title, version, description } = document.info ?? {};
  return { info: { title: text(title), version: text(version), description: text(description) }, schemas, entries };
}

function readEntry(schemas, key, channel) {
  const extension = channel["x-hubbub"] ?? {};
  const operations = Object.values(schemas.document.operations ?? {}).filter(
    (operation) => operation.channel?.$ref === `#/channels/${key}`,
  );
  const parameters = readParameters(schemas, channel, extension);
  const address = text(channel.address);
  const title = text(channel.title);
  const summary = text(channel.summary);
  return {
    key,
    kind: extension.kind === "channel" ? "channel" : "endpoint",
    address,
    title,
    summary,
    caption: summary || (title === address ? "" : title),
    description: text(channel.description),
    tags: (channel.tags ?? []).map(({ name }) => text(name)),
    parameters,
    credentials: readCredentials(schemas, operations, parameters),
    // The document speaks for the application: what it receives, the client sends.
    sent: messagesOf(schemas, operations, "receive"),
    received: messagesOf(schemas, operations, "send"),
    onInvalid: text(extension.onInvalid),
    limits: extension.limits ?? {},
    outbox: extension.outbox,
    history: extension.history,
    presence: extension.presence,
    policy: text(extension.policy),
    closeCodes: readCodes(extension.closeCodes, "code", "reason"),
    refusals: readCodes(extension.refusals, "status", "limit"),
    problems: (extension.problems ?? []).map(text),
  };
}

/** Codes of either kind: the number, the word that goes with it, and what it means. */
function readCodes(list, number, word) {
  return (list ?? []).map((one) => ({
    code: Number(one[number]),
    word: text(one[word]),
    description: text(one.description),
  }));
}

function messagesOf(schemas, operations, action) {
  const messages = operations
    .filter((operation) => operation.action === action)
    .flatMap((operation) => operation.messages ?? [])
    .map((reference) => readMessage(schemas, reference));
  // A title is for people, a name tells apart: two models of one name have the same title.
  const titles = messages.map(({ title }) => title);
  for (const message of messages) {
    if (titles.indexOf(message.title) !== titles.lastIndexOf(message.title)) message.title = message.name;
  }
  return messages;
}

function readMessage(schemas, reference) {
  const message = schemas.follow(reference);
  const name = text(message.name) || nameOf(reference.$ref);
  return {
    name,
    title: text(message.title) || name,
    summary: text(message.summary),
    description: text(message.description),
    problem: text(message["x-hubbub"]?.problem),
    format: formatOf(text(message.contentType)),
    schema: message.payload ?? {},
    examples: (message.examples ?? []).filter((example) => "payload" in example).map((example) => example.payload),
  };
}

function formatOf(contentType) {
  if (contentType.startsWith("text/")) return "text";
  return contentType === "application/octet-stream" ? "binary" : "json";
}

function readParameters(schemas, channel, extension) {
  const path = Object.entries(channel.parameters ?? {}).map(([name, parameter]) => ({
    name,
    place: "path",
    required: true,
    slashes: (extension.slashes ?? []).includes(name),
    schema: parameter["x-schema"] ?? {},
  }));
  const { query, headers } = channel.bindings?.ws ?? {};
  return [
    ...path,
    ...readFields(schemas, "query", query),
    ...readFields(schemas, "header", headers),
    ...readFields(schemas, "cookie", extension.cookies),
  ];
}

function readFields(schemas, place, object) {
  const { properties = {}, required = [] } = schemas.resolve(object ?? {});
  return Object.entries(properties).map(([name, schema]) => ({
    name,
    place,
    required: required.includes(name),
    schema,
  }));
}

/** What proves who the client is: fields to fill in, each with the place where a handshake carries it. */
function readCredentials(schemas, operations, parameters) {
  const references = operations.flatMap(({ security }) => security ?? []).map(({ $ref }) => $ref);
  const declared = new Set(parameters.map(({ place, name }) => `${place} ${name.toLowerCase()}`));
  return [...new Set(references)]
    .map(($ref) => readCredential(nameOf($ref), schemas.follow({ $ref })))
    .filter(({ place, name }) => {
      const key = `${place} ${name.toLowerCase()}`;
      return !declared.has(key) && declared.add(key); // two schemes may share one header: it is asked for once
    });
}

function readCredential(title, scheme) {
  const description = text(scheme.description);
  const about = { title, secret: true, description, type: scheme.type, schema: { type: "string" } };
  if (scheme.type === "httpApiKey") {
    return { ...about, name: text(scheme.name), place: text(scheme.in), prefix: "" };
  }
  const basic = scheme.type === "http" && /^basic$/i.test(text(scheme.scheme));
  return { ...about, name: "Authorization", place: "header", prefix: basic ? "Basic " : "Bearer ", basic };
}
