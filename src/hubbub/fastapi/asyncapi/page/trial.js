/** Where an endpoint is tried: the form for the handshake, and its connections side by side. */
import { element } from "./element.js";
import { HandshakeForm } from "./handshake.js";
import { Panel } from "./panel.js";

/** The connections of all endpoints. Event: `change`, when one comes or goes. */
export class Trials extends EventTarget {
  panels = [];
  #number = 0;
  #views = new Map(); // key of the endpoint -> its view, which stays while others are shown: connections go on

  constructor(schemas, root) {
    super();
    this.schemas = schemas;
    this.root = root;
  }

  /** The view of an endpoint, the same one every time. */
  view(entry) {
    if (!this.#views.has(entry.key)) this.#views.set(entry.key, this.#make(entry));
    return this.#views.get(entry.key);
  }

  /** The panel of a connection of an endpoint, if there is one of that number. */
  panel(entry, number) {
    return this.panels.find((panel) => panel.entry === entry && String(panel.number) === number);
  }

  #make(entry) {
    const list = element("div.panels");
    const form = new HandshakeForm(this.schemas, entry, this.root, (request) => {
      this.#number += 1;
      const panel = new Panel(this.schemas, entry, request, this.#number);
      this.panels.push(panel);
      list.append(panel.node);
      panel.node.scrollIntoView({ block: "nearest" });
      panel.addEventListener("removed", () => {
        this.panels.splice(this.panels.indexOf(panel), 1);
        form.node.querySelector("button.primary").focus();
        this.#changed();
      });
      this.#changed();
    });
    return element("div.trial", form.node, list);
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}
