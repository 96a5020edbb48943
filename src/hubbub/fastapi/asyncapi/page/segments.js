import { element, newId } from "./element.js";

/** A choice of a few that all are in sight: radio buttons which look like one control. */
export class Segments {
  /** `choices` are pairs of a value and its label; `onchange` gets the value. The first is chosen. */
  constructor(label, choices, onchange) {
    const name = newId();
    this.inputs = new Map(choices.map(([value]) => [value, element("input", { type: "radio", name, value })]));
    this.node = element(
      "div.segments",
      { role: "radiogroup", "aria-label": label },
      choices.map(([value, text]) => element("label", this.inputs.get(value), element("span", text))),
    );
    this.value = choices[0][0];
    this.node.onchange = () => onchange(this.value);
    this.node.onkeydown = (event) => {
      if (event.key === "Enter") event.preventDefault(); // it would send the form that this stands in
    };
  }

  get value() {
    return [...this.inputs].find(([, input]) => input.checked)?.[0];
  }

  set value(value) {
    this.inputs.get(value).checked = true;
  }

  /** Offer a choice or do not. */
  offer(value, isOffered) {
    this.inputs.get(value).parentElement.hidden = !isOffered;
  }

  focus() {
    this.inputs.get(this.value).focus();
  }
}
