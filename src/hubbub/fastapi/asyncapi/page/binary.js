/** Bytes as somebody types them, or from a file. */
import { element, newId } from "./element.js";

export function hex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(" ");
}

export function bytesFromHex(text) {
  const digits = text.replace(/0x/gi, "").replace(/[\s,:]/g, "");
  if (!/^([0-9a-f]{2})*$/i.test(digits)) throw new Error("Hexadecimal bytes have two digits each, 0 to 9 and a to f.");
  return Uint8Array.from(digits.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
}

export function bytesFromBase64(text) {
  try {
    return Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (letter) => letter.charCodeAt(0));
  } catch {
    throw new Error("This is not Base64.");
  }
}

const ENCODINGS = {
  hex: ["Hexadecimal", bytesFromHex],
  base64: ["Base64", bytesFromBase64],
  text: ["Text as UTF-8", (text) => new TextEncoder().encode(text)],
};

/** A form for a binary message: `{node, read, write}`. */
export function binaryForm() {
  const encoding = element(
    "select",
    { id: newId("encoding") },
    Object.entries(ENCODINGS).map(([value, [label]]) => element("option", { value }, label)),
    element("option", { value: "file" }, "File"),
  );
  const text = element("textarea.code", { id: newId("bytes"), rows: 4, spellcheck: false, value: "68 75 62" });
  const file = element("input", { type: "file", id: newId("file") });
  const textField = element("div.field", element("label", { htmlFor: text.id }, "Bytes"), text);
  const fileField = element("div.field", { hidden: true }, element("label", { htmlFor: file.id }, "File"), file);
  let contents = null;

  encoding.onchange = () => {
    textField.hidden = encoding.value === "file";
    fileField.hidden = encoding.value !== "file";
  };
  file.onchange = async () => {
    contents = null;
    const chosen = file.files[0];
    if (chosen) contents = new Uint8Array(await chosen.arrayBuffer());
    file.dispatchEvent(new Event("input", { bubbles: true }));
  };
  const read = () => {
    if (encoding.value !== "file") return ENCODINGS[encoding.value][1](text.value);
    if (contents === null) throw new Error("Choose a file.");
    return contents;
  };
  const encodingField = element("div.field", element("label", { htmlFor: encoding.id }, "Given as"), encoding);
  const write = (bytes) => {
    encoding.value = "hex";
    encoding.onchange();
    text.value = hex(bytes);
  };
  return { node: element("div.form-root", encodingField, textField, fileField), read, write };
}
