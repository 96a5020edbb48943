/** What a client needs to connect: the address, the headers and the subprotocols, from what a form says. */
import { textsOf } from "./validate.js";

/** The name under which a form keeps the value of a parameter: two places may have parameters of one name. */
export function keyOf(parameter) {
  return `${parameter.place}.${parameter.name}`;
}

/**
 * The request for a handshake. `values` has the text of each field by its key; what is empty is left out.
 *
 * Headers and cookies are for clients other than browsers: a page cannot give a handshake any.
 */
export function requestFor(schemas, entry, values, subprotocols, root) {
  const headers = [];
  const cookies = [];
  const query = [];
  for (const parameter of [...entry.parameters, ...entry.credentials]) {
    for (const one of textsOf(schemas, parameter.schema, values[keyOf(parameter)] ?? "")) {
      if (parameter.place === "query") query.push([parameter.name, one]);
      if (parameter.place === "header") headers.push([parameter.name, headerValue(parameter, one)]);
      if (parameter.place === "cookie") cookies.push(`${parameter.name}=${one}`);
    }
  }
  if (cookies.length) headers.push(["Cookie", cookies.join("; ")]);
  return { url: address(entry, values, query, root), headers, subprotocols };
}

/** The ws: or wss: address of an endpoint; `root` is the http: or https: address at which the application begins. */
function address(entry, values, query, root) {
  const path = entry.address.slice(1).replace(/\{([^{}]+)\}/g, (_, name) => {
    const text = (values[`path.${name}`] ?? "").toWellFormed();
    const slashes = entry.parameters.some((one) => one.place === "path" && one.name === name && one.slashes);
    return slashes ? text.split("/").map(encodeURIComponent).join("/") : encodeURIComponent(text);
  });
  const url = new URL(root);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  // Joined as text: resolving it as a reference would take a colon in the first part for the end of a scheme.
  url.pathname = url.pathname.replace(/[^/]*$/, "") + path;
  url.search = new URLSearchParams(query).toString();
  url.hash = "";
  return url.href;
}

function headerValue({ prefix = "", basic }, text) {
  if (prefix && text.toLowerCase().startsWith(prefix.toLowerCase())) return text;
  return prefix + (basic ? base64(new TextEncoder().encode(text)) : text);
}

export function base64(bytes) {
  let text = "";
  for (let start = 0; start < bytes.length; start += 8_192) {
    text += String.fromCharCode(...bytes.subarray(start, start + 8_192));
  }
  return btoa(text);
}
