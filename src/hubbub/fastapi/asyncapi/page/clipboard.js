import { element } from "./element.js";

const SAID_FOR_MS = 1_600;

// One for all buttons: what is within a button is its name, and no part of the page that is read out when it changes.
const announcer = element("p.visually-hidden", { role: "status" });
document.body.append(announcer);

/** A button that copies the text which `read` gives, and says that it has. */
export function copyButton(label, read) {
  const button = element("button.small", label);
  let timer;
  button.onclick = async () => {
    button.textContent = (await copy(read())) ? "Copied" : "Not copied";
    announcer.textContent = button.textContent;
    clearTimeout(timer);
    timer = setTimeout(() => {
      button.textContent = label;
      announcer.textContent = "";
    }, SAID_FOR_MS);
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
  const field = element("textarea.visually-hidden", { value: text, readOnly: true, "aria-hidden": "true" });
  document.body.append(field);
  field.select();
  const copied = document.execCommand("copy");
  field.remove();
  before?.focus();
  return copied;
}
