/**
 * Build an element: `element("p.hint", { id }, "Some ", code)`. Its classes stand after its tag, its properties may be
 * left out. A button sends no form unless its type says so.
 *
 * Children that are strings become text, never HTML: everything from the document and from a server goes through here.
 * Names with a hyphen, `role` and `spellcheck` are attributes; all others are properties. What is null, undefined or false is left
 * out.
 */
export function element(description, ...rest) {
  const [tag, ...classes] = description.split(".");
  const node = document.createElement(tag);
  if (classes.length) node.className = classes.join(" ");
  if (tag === "button") node.type = "button";
  const properties = rest[0]?.constructor === Object ? rest.shift() : {};
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (/-|^role$|^spellcheck$/.test(name)) node.setAttribute(name, value);
    else node[name] = value;
  }
  return fill(node, rest);
}

/** Fill a node anew. */
export function fill(node, ...children) {
  const present = children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
  node.replaceChildren(...present);
  return node;
}

/** A label for an input, which gets an id. */
export function labelFor(input, ...children) {
  input.id = newId();
  return element("label", { htmlFor: input.id }, children);
}

/** A description in paragraphs; what stands between backticks is code, as docstrings have it. */
export function prose(text, kind = "prose") {
  if (!text) return null;
  const paragraphs = text.trim().split(/\n\s*\n/);
  return element(
    `div.${kind}`,
    paragraphs.map((paragraph) => element("p", inline(paragraph))),
  );
}

/** A line of text in which what stands between backticks is code. */
export function inline(text) {
  return text.split(/(``[^`]+``|`[^`]+`)/).map((part) => {
    const code = part.length > 2 && part.startsWith("`") ? part.replace(/^`+|`+$/g, "") : "";
    return code ? element("code", code) : part;
  });
}

/** What is said of something, and its constraints in words, on one line. */
export function aboutLine(description, words) {
  return [description ? inline(description) : "", description && words.length ? " · " : "", words.join(" · ")];
}

let numbers = 0;

/** An id that no other element of the page has. */
export function newId() {
  numbers += 1;
  return `id-${numbers}`;
}
