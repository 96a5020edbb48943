/** Shows a request as code for elsewhere, in the language that is chosen. */
import { copyButton } from "./clipboard.js";
import { javascript, python, websocat } from "./copy.js";
import { element } from "./element.js";
import { Segments } from "./segments.js";

const LANGUAGES = [
  ["websocat", "websocat", websocat],
  ["python", "Python", python],
  ["javascript", "JavaScript", javascript],
];

/**
 * A part that opens and shows the code. `read` gives `{request, message}` and may throw what the reader should see.
 * Call `update` when what it gives may have changed.
 */
export function codeView(read) {
  const pre = element("pre", { tabIndex: 0, "aria-label": "Code" });
  const languages = new Segments("Language", LANGUAGES, () => update());
  const tools = element(
    "div.code-tools",
    languages.node,
    copyButton("Copy code", () => pre.textContent),
  );
  const node = element("details.code-view", element("summary", "As code"), tools, pre);

  const update = () => {
    if (!node.open) return;
    const [, , write] = LANGUAGES.find(([value]) => value === languages.value);
    try {
      const { request, message } = read();
      pre.textContent = write(request, message);
    } catch (fault) {
      pre.textContent = fault.message;
    }
  };
  node.ontoggle = update;
  return { node, update };
}
