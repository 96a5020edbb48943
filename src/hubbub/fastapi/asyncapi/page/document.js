/**
 * Reads an AsyncAPI document into what the page shows: entries, each an endpoint or a family of channels, with its
 * parameters, its credentials and the messages of both directions as the client sees them.
 */
import { Schemas, nameOf } from "./schema.js";

const CREDENTIAL_PLACES = { query: "query", header: "header", cookie: "cookie" };

export class UnreadableDocument extends Error {}

/** Fetch the document. Every failure is an UnreadableDocument whose message is for the reader of the page. */
export async function fetchDocument(url) {
  const response = await fetch(url, { headers: { Accept: "application/json" } }).catch(() => null);
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
  return { info: document.info ?? {}, schemas, entries };
}

function readEntry(schemas, key, reference) {
  const channel = schemas.follow(reference);
  const extension = channel["x-hubbub"] ?? {};
  const operations = operationsOf(schemas, key);
  const parameters = readParameters(schemas, channel, extension);
  return {
    key,
    kind: extension.kind === "channel" ? "channel" : "endpoint",
    address: channel.address ?? key,
    title: channel.title ?? key,
    summary: channel.summary ?? "",
    description: channel.description ?? "",
    tags: (channel.tags ?? []).map((tag) => schemas.follow(tag).name),
    parameters,
    credentials: readCredentials(schemas, operations, parameters),
    // The document speaks for the application: what it receives, the client sends.
    sent: messagesOf(schemas, channel, operations, "receive"),
    received: messagesOf(schemas, channel, operations, "send"),
    onInvalid: extension.onInvalid,
    limits: extension.limits ?? {},
    outbox: extension.outbox,
    history: extension.history,
    presence: extension.presence,
    policy: extension.policy,
    closeCodes: extension.closeCodes ?? [],
    refusals: extension.refusals ?? [],
    problems: extension.problems ?? [],
  };
}

function operationsOf(schemas, key) {
  const reference = `#/channels/${key}`;
  return Object.values(schemas.document.operations ?? {})
    .map((operation) => schemas.follow(operation))
    .filter((operation) => operation.channel?.$ref === reference);
}

function messagesOf(schemas, channel, operations, action) {
  const messages = operations
    .filter((operation) => operation.action === action)
    .flatMap((operation) => operation.messages ?? Object.values(channel.messages ?? {}))
    .map((reference) => readMessage(schemas, reference));
  // A title is for people, a name tells apart: two models of one name have the same title.
  for (const message of messages) {
    if (messages.some((other) => other !== message && other.title === message.title)) message.title = message.name;
  }
  return messages;
}

function readMessage(schemas, reference) {
  const message = schemas.follow(reference);
  const key = nameOf(reference.$ref);
  return {
    name: message.name ?? key,
    title: message.title ?? message.name ?? key,
    summary: message.summary ?? "",
    description: message.description ?? "",
    format: formatOf(message.contentType ?? schemas.document.defaultContentType ?? ""),
    schema: message.payload ?? {},
    examples: (message.examples ?? []).filter((example) => "payload" in example).map((example) => example.payload),
  };
}

function formatOf(contentType) {
  if (contentType.startsWith("text/")) return "text";
  return contentType === "application/octet-stream" ? "binary" : "json";
}

function readParameters(schemas, channel, extension) {
  const path = Object.entries(channel.parameters ?? {}).map(([name, reference]) => {
    const parameter = schemas.follow(reference);
    const { description, examples, enum: choices, default: preset } = parameter;
    const about = Object.fromEntries(
      Object.entries({ description, examples, enum: choices, default: preset }).filter(
        ([, value]) => value !== undefined,
      ),
    );
    const slashes = (extension.slashes ?? []).includes(name);
    return { name, place: "path", required: true, slashes, schema: { ...parameter["x-schema"], ...about } };
  });
  const { query, headers } = channel.bindings?.ws ?? {};
  return [
    ...path,
    ...readFields(schemas, "query", query),
    ...readFields(schemas, "header", headers),
    ...readFields(schemas, "cookie", extension.cookies),
  ];
}

function readFields(schemas, place, object) {
  const { properties = {}, required = [] } = object ? schemas.resolve(object) : {};
  return Object.entries(properties).map(([name, schema]) => ({
    name,
    place,
    required: required.includes(name),
    schema,
  }));
}

/** What proves who the client is: fields to fill in, each with the place where a handshake carries it. */
function readCredentials(schemas, operations, parameters) {
  const schemes = new Map();
  for (const operation of operations) {
    for (const reference of operation.security ?? []) {
      const scheme = schemas.follow(reference);
      const name = nameOf(reference.$ref) || (scheme.type ?? "");
      schemes.set(reference.$ref ?? JSON.stringify(scheme), readCredential(name, scheme));
    }
  }
  const declared = new Set(parameters.map(({ place, name }) => `${place} ${name.toLowerCase()}`));
  return [...schemes.values()].filter(({ place, name }) => {
    const key = `${place} ${name.toLowerCase()}`;
    return !declared.has(key) && declared.add(key); // two schemes may share one header: it is asked for once
  });
}

function readCredential(title, scheme) {
  const about = { title, secret: true, description: scheme.description, type: scheme.type, schema: { type: "string" } };
  if (scheme.type === "httpApiKey" || scheme.type === "apiKey") {
    return { ...about, name: scheme.name ?? title, place: CREDENTIAL_PLACES[scheme.in] ?? "query", prefix: "" };
  }
  const basic = scheme.type === "http" && /^basic$/i.test(scheme.scheme ?? "");
  return { ...about, name: "Authorization", place: "header", prefix: basic ? "Basic " : "Bearer ", basic };
}
