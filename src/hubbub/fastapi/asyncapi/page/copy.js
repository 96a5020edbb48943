/** The same request as a command or a program that runs elsewhere. All functions are pure: text in, text out. */
import { base64 } from "./request.js";

/** One word of a POSIX shell, whatever is in it. */
export function shellQuoted(text) {
  return /^[\w@%+:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** A string of Python and of JavaScript: both have the escapes of JSON. The quotes are such that JSON stays readable. */
export function quoted(text) {
  const escaped = JSON.stringify(text);
  if (!text.includes('"') || text.includes("'")) return escaped;
  return `'${escaped.slice(1, -1).replaceAll('\\"', '"')}'`;
}

/**
 * A command for websocat, which sends the message, if there is one, and goes on showing what comes.
 *
 * It takes a line for a message: JSON is put on one line, and for any other text with line breaks that is switched off.
 * Headers have the form `-H=…`, because `-H …` takes the words after it for headers too.
 */
export function websocat({ url, headers, subprotocols }, message) {
  const words = ["websocat"];
  for (const [name, value] of headers) words.push(`-H=${shellQuoted(`${name}: ${value}`)}`);
  if (subprotocols.length) words.push(`--protocol=${shellQuoted(subprotocols.join(","))}`);
  const end = shellQuoted(url);
  if (!message) return [...words, end].join(" ");
  if (message.bytes)
    return `echo ${base64(message.bytes)} | base64 -d | ${[...words, "--binary", "--no-close", end].join(" ")}`;
  const text = onOneLine(message.text);
  if (/[\r\n]/.test(text)) words.push("--no-line");
  words.push("--no-close", end);
  return `printf ${/[\r\n]/.test(text) ? "%s" : "'%s\\n'"} ${shellQuoted(text)} | ${words.join(" ")}`;
}

/** A program for the Python library `websockets`. */
export function python({ url, headers, subprotocols }, message) {
  const options = [`${quoted(url)},`];
  if (headers.length) {
    options.push(`additional_headers=[${headers.map((pair) => `(${pair.map(quoted).join(", ")})`).join(", ")}],`);
  }
  if (subprotocols.length) options.push(`subprotocols=[${subprotocols.map(quoted).join(", ")}],`);
  const called = options.length === 1 ? `connect(${quoted(url)})` : `connect(\n    ${options.join("\n    ")}\n)`;
  const bytes = message?.bytes;
  const payload = bytes ? `base64.b64decode("${base64(bytes)}")` : message && quoted(message.text);
  return [
    ...(bytes ? ["import base64", ""] : []),
    "from websockets.sync.client import connect",
    "",
    `with ${called} as connection:`,
    ...(message ? [`    connection.send(${payload})`] : []),
    "    for message in connection:",
    "        print(message)",
    "",
  ].join("\n");
}

/** A script for a web page, where there are no headers to give. */
export function javascript({ url, headers, subprotocols }, message) {
  const protocols = subprotocols.length ? `, [${subprotocols.map(quoted).join(", ")}]` : "";
  const bytes = message?.bytes;
  const payload = bytes ? `new Uint8Array([${bytes.join(", ")}])` : message && quoted(message.text);
  return [
    ...headers.map(([name]) => `// A web page cannot send the header ${commentLine(name)} with a WebSocket.`),
    `const socket = new WebSocket(${quoted(url)}${protocols});`,
    ...(message ? [`socket.onopen = () => socket.send(${payload});`] : []),
    "socket.onmessage = ({ data }) => console.log(data);",
    "socket.onclose = ({ code, reason }) => console.log(code, reason);",
    "",
  ].join("\n");
}

function commentLine(text) {
  return text.replace(/[\r\n\u2028\u2029]/g, " ");
}

function onOneLine(text) {
  if (!/[\r\n]/.test(text)) return text;
  try {
    JSON.parse(text);
  } catch {
    return text;
  }
  return text.replace(/\s*[\r\n]\s*/g, " ").trim(); // within a string of JSON there are no line breaks
}
