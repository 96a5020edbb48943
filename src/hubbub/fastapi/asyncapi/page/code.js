/** Shows a request as code for elsewhere, in the language that is chosen. */
import { copyButton } from "./clipboard.js";
import { javascript, python, websocat } from "./copy.js";
import { element, newId } from "./element.js";

const LANGUAGES = [["websocat", "websocat", websocat], ["python", "Python", python], ["javascript", "JavaScript", javascript]];

/**
 * A part that opens and shows the code. `read` gives `{request, message}` and may throw what the reader should see.
 * Call `update` when what it gives may have changed.
 */
export function codeView(read) {
  const pre = element("pre", { tabIndex: 0, "aria-label": "Code" });
  const group = newId("language");
  const choices = LANGUAGES.map(([value, label], index) => element("label", {},
    element("input", { type: "radio", name: group, value, checked: index === 0 }), element("span", {}, label)));
  const segments = element("div", { className: "segments", role: "radiogroup", "aria-label": "Language" }, choices);
  const tools = element("div", { className: "code-tools" }, segments, copyButton("Copy code", () => pre.textContent));
  const node = element("details", { className: "code-view" }, element("summary", {}, "As code"), tools, pre);

  const update = () => {
    if (!node.open) return;
    const chosen = segments.querySelector("input:checked").value;
    const [, , write] = LANGUAGES.find(([value]) => value === chosen);
    try {
      const { request, message } = read();
      pre.textContent = write(request, message);
    } catch (fault) {
      pre.textContent = fault.message;
    }
  };
  node.ontoggle = update;
  segments.onchange = update;
  return { node, update };
}
