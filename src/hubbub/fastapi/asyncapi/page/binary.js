/** Bytes as somebody types them, or from a file. */
import { element, labelFor } from "./element.js";

export function hex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(" ");
}

function bytesFromHex(text) {
  const digits = text.replace(/0x/gi, "").replace(/[\s,:]/g, "");
  if (!/^([0-9a-f]{2})*$/i.test(digits)) throw new Error("Hexadecimal bytes have two digits each, 0 to 9 and a to f.");
  return Uint8Array.from(digits.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
}

function bytesFromBase64(text) {
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
    Object.entries(ENCODINGS).map(([value, [label]]) => element("option", { value }, label)),
    element("option", { value: "file" }, "File"),
  );
  const text = element("textarea.code", { rows: 4, value: "68 75 62" });
  const file = element("input", { type: "file" });
  const textField = element("div.field", labelFor(text, "Bytes"), text);
  const fileField = element("div.field", { hidden: true }, labelFor(file, "File"), file);
  const encodingField = element("div.field", labelFor(encoding, "Encoding"), encoding);
  let contents = null; // of the file, or an Error

  encoding.onchange = () => {
    textField.hidden = encoding.value === "file";
    fileField.hidden = encoding.value !== "file";
  };
  file.onchange = async () => {
    const [chosen] = file.files;
    contents = null;
    const read = await chosen?.arrayBuffer().catch(() => new Error("The file cannot be read."));
    if (chosen !== file.files[0]) return; // another was chosen meanwhile
    contents = read instanceof ArrayBuffer ? new Uint8Array(read) : read;
    file.dispatchEvent(new Event("input", { bubbles: true }));
  };
  const read = () => {
    if (encoding.value !== "file") return ENCODINGS[encoding.value][1](text.value);
    if (contents instanceof Uint8Array) return contents;
    throw contents ?? new Error("Choose a file.");
  };
  const write = (bytes) => {
    encoding.value = "hex";
    encoding.onchange();
    text.value = hex(bytes);
  };
  return { node: element("div.form-root", encodingField, textField, fileField), read, write };
}
