/** Numbers, limits and close codes in words. */

/** 1 to 1015 of RFC 6455 section 7.4 and the registry that it founds; then what Hubbub adds. */
const CLOSE_CODES = {
  1000: "A normal end.",
  1001: "One side goes away: the server stops, or the page is left.",
  1002: "The other side broke the protocol.",
  1003: "A message of a kind that is not taken here, such as binary where text is due.",
  1005: "Closed without a code.",
  1006: "The connection was lost, or never came to be.",
  1007: "A message whose content is not what it says it is.",
  1008: "The server's rules forbid it.",
  1009: "A message was too large.",
  1010: "An extension that was needed is not there.",
  1011: "The server failed.",
  1012: "The server restarts: come back after a while.",
  1013: "The server is too busy: come back after a while.",
  1014: "A gateway got a bad answer from the server behind it.",
  1015: "TLS failed.",
  3000: "Not authenticated.",
  3003: "Not allowed.",
  3008: "This side did not read what it was sent.",
  3503: "The application has disconnected this user.",
};

const LIMITS = {
  connections: ["Connections in total", count],
  connections_per_user: ["Connections of one user", count],
  connections_per_address: ["Connections from one address", count],
  channels_per_connection: ["Channels that one connection joins", count],
  channel_name_bytes: ["Name of a channel", bytes],
  message_bytes: ["Size of a message", bytes],
  message_fragments: ["Frames of a message", count],
  messages_per_s: ["Messages a second", count],
  message_burst: ["Messages at once", count],
  first_message_s: ["Time to the first message", seconds],
  idle_s: ["Silence of the client", seconds],
};

const ON_INVALID = {
  reply: "A message that does not fit is answered with an error, and the connection goes on.",
  close: "A message that does not fit closes the connection.",
  raise: "A message that does not fit is left to the application.",
};

const POLICIES = {
  disconnect: "the client is disconnected with 3008",
  drop_oldest: "the oldest waiting publications are dropped",
  drop_newest: "the new publication is dropped",
  latest: "only the newest publication of each channel is kept",
};

/** Why a connection ended: the document's own words where it lists the code, or else what the code means anywhere. */
export function closeMeaning(code, reason, closeCodes = []) {
  const listed = closeCodes.filter((one) => one.code === code);
  const found = listed.find((one) => one.reason && one.reason === reason) ?? listed.find((one) => !one.reason);
  if (found?.description) return sentence(found.description);
  if (CLOSE_CODES[code]) return CLOSE_CODES[code];
  if (code >= 4000) return "A code of the application's own.";
  return code >= 3000 ? "A code of a library." : "A code without a meaning that is agreed on.";
}

/** A limit as its label and its value in words. */
export function limitInWords(name, value) {
  const [label, unit] = LIMITS[name] ?? [name.replaceAll("_", " "), count];
  return [label, unit(value)];
}

export function invalidInWords(onInvalid) {
  return ON_INVALID[onInvalid] ?? "";
}

/** What happens to publications for a client that reads slowly. */
export function policyInWords(policy) {
  return POLICIES[policy] ?? policy;
}

export function count(value) {
  return typeof value === "number" ? value.toLocaleString("en") : String(value);
}

export function bytes(value) {
  if (typeof value !== "number" || value < 1024) return `${count(value)} bytes`;
  const [size, unit] = value < 1_048_576 ? [value / 1024, "KiB"] : [value / 1_048_576, "MiB"];
  return `${size.toLocaleString("en", { maximumFractionDigits: 1 })} ${unit}`;
}

export function seconds(value) {
  if (value >= 120 && value % 60 === 0) return `${count(value / 60)} min`;
  return `${count(value)} s`;
}

/** A span of time for a log: short, with as much of it as one can read. */
export function span(ms) {
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  return ms < 120_000 ? `${(ms / 1_000).toFixed(1)} s` : `${Math.round(ms / 60_000)} min`;
}

export function sentence(text) {
  return /[.!?…]$/.test(text) ? text : `${text}.`;
}
