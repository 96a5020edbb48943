import { element } from "./element.js";

const SAID_FOR_MS = 1_600;

/** A button that copies the text which `read` gives, and says that it has. */
export function copyButton(label, read) {
  const said = element("span", { role: "status" }, label);
  const button = element("button", { type: "button", className: "small" }, said);
  let timer;
  button.onclick = async () => {
    said.textContent = (await copy(read())) ? "Copied" : "Not copied";
    clearTimeout(timer);
    timer = setTimeout(() => { said.textContent = label; }, SAID_FOR_MS);
  };
  return button;
}

/** The clipboard is there on safe origins only; elsewhere the old way, by a selection, still works. */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copySelected(text);
  }
}

function copySelected(text) {
  const before = document.activeElement;
  const field = element("textarea", { className: "visually-hidden", value: text, readOnly: true, "aria-hidden": "true" });
  document.body.append(field);
  field.select();
  const copied = document.execCommand("copy");
  field.remove();
  before?.focus();
  return copied;
}
