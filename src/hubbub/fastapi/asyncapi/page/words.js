/** Numbers, limits and close codes in words. */

/** What a page may meet of RFC 6455, section 7.4, where the document does not say it itself. */
const CLOSE_CODES = {
  1000: "A normal end.",
  1001: "One side goes away: the server stops, or the page is left.",
  1003: "A message of a kind that is not taken here, such as binary where text is due.",
  1005: "Closed without a code.",
  1006: "The connection was lost, or never came to be.",
  1008: "The server's rules forbid it.",
  1009: "A message was too large.",
  1011: "The server failed.",
  1012: "The server restarts: come back after a while.",
  1013: "The server is too busy: come back after a while.",
};

const ON_INVALID = {
  __proto__: null,
  reply: "A message that does not fit is answered with an error, and the connection goes on.",
  close: "A message that does not fit closes the connection.",
  raise: "A message that does not fit is left to the application.",
};

const POLICIES = {
  __proto__: null,
  disconnect: "the client is disconnected with 3008",
  drop_oldest: "the oldest waiting publications are dropped",
  drop_newest: "the new publication is dropped",
  latest: "only the newest publication of each channel is kept",
};

/** Why a connection ended: the document's own words where it lists the code, or else what the code means anywhere. */
export function closeMeaning(code, reason, closeCodes) {
  const listed = closeCodes.filter((one) => one.code === code);
  const found = listed.find(({ word }) => word && word === reason) ?? listed.find(({ word }) => !word);
  if (found?.description) return /[.!?…]$/.test(found.description) ? found.description : `${found.description}.`;
  if (CLOSE_CODES[code]) return CLOSE_CODES[code];
  if (code >= 4000) return "A code of the application's own.";
  return code >= 3000 ? "A code of a library." : "A code without a meaning that is agreed on.";
}

/** The value of one of `hubbub.Limits`, whose name tells its unit. */
export function limitInWords(name, value) {
  if (name.endsWith("_bytes")) return bytes(value);
  return /(?<!_per)_s$/.test(name) ? seconds(value) : count(value);
}

export function invalidInWords(onInvalid) {
  return ON_INVALID[onInvalid] ?? "";
}

/** What happens to publications for a client that reads slowly. */
export function policyInWords(policy) {
  return POLICIES[policy] ?? policy;
}

/** `1 item`, `2 items`. */
export function plural(number, one, many = `${one}s`) {
  return `${number} ${number === 1 ? one : many}`;
}

/** The first of many values, as JSON, and how many there are beside them. */
export function few(values, most = 8) {
  const texts = values.slice(0, most).map((value) => JSON.stringify(value));
  return values.length > most ? [...texts, `… and ${values.length - most} more`] : texts;
}

/** A value as a reader sees it: text as it is, anything else as JSON. */
export function shown(value) {
  return typeof value === "string" ? value : JSON.stringify(value);
}

export function count(value) {
  return Number(value).toLocaleString("en");
}

export function bytes(value) {
  if (value < 1024) return `${count(value)} bytes`;
  const [size, unit] = value < 1_048_576 ? [value / 1024, "KiB"] : [value / 1_048_576, "MiB"];
  return `${size.toLocaleString("en", { maximumFractionDigits: 1 })} ${unit}`;
}

export function seconds(value) {
  return value >= 120 && value % 60 === 0 ? `${count(value / 60)} min` : `${count(value)} s`;
}

/** A span of time for a log: short, with as much of it as one can read. */
export function span(ms) {
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  return ms < 120_000 ? `${(ms / 1_000).toFixed(1)} s` : `${Math.round(ms / 60_000)} min`;
}
