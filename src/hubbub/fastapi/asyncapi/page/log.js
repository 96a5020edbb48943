/**
 * The log of a connection: what went in both directions, and when.
 *
 * What comes is shown with the next frame of the screen, all of it at once, and only what is in the bounded list of the
 * connection is in the page: a thousand messages a second cost some sixty changes of the page. A line shows its message
 * in full when it is opened, not before.
 */
import { hex } from "./binary.js";
import { copyButton } from "./clipboard.js";
import { element } from "./element.js";
import { prettyJson } from "./pretty.js";
import { span } from "./words.js";

const PREVIEW = 240;
const NEAR_END_PX = 40;
const ARROWS = { sent: "↑", received: "↓", event: "•" };
const WORDS = { sent: "Sent", received: "Received", event: "Event" };

export class LogView {
  #connection;
  #list = element("ol");
  #box; // what scrolls
  #note = element("p.log-note");
  #direction = element(
    "select.small",
    { "aria-label": "Direction" },
    element("option", { value: "" }, "All"),
    element("option", { value: "sent" }, "Sent"),
    element("option", { value: "received" }, "Received"),
  );
  #text = element("input.small", {
    type: "search",
    placeholder: "Filter",
    "aria-label": "Filter the log by text",
    autocomplete: "off",
  });
  #pause = element("button.small", { type: "button", "aria-pressed": "false" }, "Pause");
  #rows = new Map(); // number of the entry -> its line; in the order of the page
  #shownTo = 0; // number of the last entry that was looked at
  #isPaused = false;
  #follows = true;
  #isDue = false;
  #recognise;
  #again;

  /** `recognise[direction](data)` tells what a message is; `again(data)` is called to edit one that was sent. */
  constructor(connection, label, recognise, again) {
    this.#connection = connection;
    this.#recognise = recognise;
    this.#again = again;
    this.#box = element(
      "div.log",
      {
        tabIndex: 0,
        role: "log",
        "aria-live": "off", // a thousand messages a second are not to be read out
        "aria-label": label,
        "aria-description": "The arrow keys go from message to message",
      },
      this.#list,
    );
    const clear = element("button.small", { type: "button" }, "Clear");
    this.node = element(
      "section.log-view",
      { "aria-label": label },
      element("div.log-tools", this.#direction, this.#text, this.#pause, clear),
      this.#box,
      this.#note,
    );
    this.#direction.onchange = () => this.#refill();
    this.#text.oninput = () => this.#refill();
    this.#pause.onclick = () => this.#togglePause();
    clear.onclick = () => {
      connection.clear();
      this.#refill();
    };
    this.#box.onscroll = () => {
      this.#follows = this.#box.scrollHeight - this.#box.scrollTop - this.#box.clientHeight < NEAR_END_PX;
    };
    this.#box.onkeydown = (event) => this.#walk(event);
    connection.addEventListener("entry", () => this.#schedule());
    this.#schedule();
  }

  /** The log was out of sight, where it cannot scroll. */
  returned() {
    if (this.#follows) this.#box.scrollTop = this.#box.scrollHeight;
  }

  /** The arrow keys go from message to message: with the tabulator there would be a thousand stops. */
  #walk(event) {
    const lines = [...this.#list.querySelectorAll("summary")];
    const at = lines.indexOf(document.activeElement);
    if (at < 0 && document.activeElement !== this.#box) return; // within a message that is open
    const targets = { ArrowDown: at + 1, ArrowUp: at < 0 ? lines.length - 1 : at - 1, Home: 0, End: lines.length - 1 };
    const target = lines[targets[event.key]];
    if (!target) return;
    event.preventDefault();
    target.focus();
  }

  #schedule() {
    if (this.#isDue) return;
    this.#isDue = true;
    requestAnimationFrame(() => {
      this.#isDue = false;
      this.#update();
    });
  }

  #togglePause() {
    this.#isPaused = !this.#isPaused;
    this.#pause.setAttribute("aria-pressed", String(this.#isPaused));
    this.#pause.textContent = this.#isPaused ? "Go on" : "Pause";
    this.#update();
  }

  #refill() {
    this.#rows.clear();
    this.#list.replaceChildren();
    if (this.#isPaused) this.#append(this.#connection.entries.filter(({ number }) => number <= this.#shownTo));
    else this.#shownTo = 0;
    this.#follows = true;
    this.#update();
  }

  #update() {
    const { entries } = this.#connection;
    if (!this.#isPaused) {
      const fresh = entries.filter(({ number }) => number > this.#shownTo);
      this.#append(fresh);
      this.#drop(entries[0]?.number ?? Infinity);
      this.#shownTo = entries.at(-1)?.number ?? this.#shownTo;
      if (this.#follows) this.#box.scrollTop = this.#box.scrollHeight;
    }
    this.#say(entries);
  }

  #append(entries) {
    const lines = document.createDocumentFragment();
    for (const entry of entries) {
      if (!this.#passes(entry)) continue;
      const line = this.#line(entry);
      this.#rows.set(entry.number, line);
      lines.append(line);
    }
    this.#list.append(lines);
  }

  /** Take the lines of entries out that the connection has let go. */
  #drop(first) {
    for (const [number, line] of this.#rows) {
      if (number >= first) break;
      line.remove();
      this.#rows.delete(number);
    }
  }

  #passes({ direction, data }) {
    if (this.#direction.value && direction !== this.#direction.value) return false;
    const wanted = this.#text.value.trim().toLowerCase();
    return !wanted || (typeof data === "string" ? data : hex(data)).toLowerCase().includes(wanted);
  }

  #say(entries) {
    const waiting = this.#isPaused ? entries.filter(({ number }) => number > this.#shownTo).length : 0;
    const { letGo } = this.#connection;
    const looked = entries.length - waiting;
    const all = `${looked} ${looked === 1 ? "entry" : "entries"}`;
    const words = [
      this.#rows.size === looked ? all : `${this.#rows.size} of ${all}`,
      waiting > 0 && `${waiting} more while paused`,
      letGo > 0 && `${letGo} older let go`,
    ]
      .filter(Boolean)
      .join(" · ");
    if (this.#note.textContent !== words) this.#note.textContent = words;
  }

  #line(entry) {
    const { direction, data, time } = entry;
    const known = direction === "event" ? { name: "" } : this.#recognise[direction](data);
    const isError = known.value?.type === "error";
    const summary = [
      element("time", { dateTime: time.toISOString() }, clock(time)),
      element("span.arrow", { "aria-hidden": "true" }, ARROWS[direction]),
      element("span.visually-hidden", WORDS[direction]),
      known.name && element("span.message-name", known.name),
      element("span.preview", preview(data)),
      element("span.gap", { title: gaps(entry) }, `+${span(entry.sincePrevious)}`),
    ];
    const line = element(`li.${direction}`, { dataset: { name: known.name, ...(isError ? { error: "" } : {}) } });
    if (direction === "event") line.append(element("p.line", summary));
    else line.append(this.#expandable(entry, known, summary));
    return line;
  }

  #expandable(entry, known, summary) {
    const details = element("details", element("summary.line", { tabIndex: -1 }, summary));
    details.ontoggle = () => {
      if (!details.open || details.childElementCount > 1) return;
      const shown = full(entry.data, known);
      const again = element("button.small", { type: "button" }, "Edit and send again");
      again.onclick = () => this.#again(entry.data);
      details.append(
        element(
          "div.full",
          element("pre", { tabIndex: 0, "aria-label": "The message in full" }, shown),
          element("p.hint", gaps(entry), " · ", size(entry.data)),
          element(
            "div.actions",
            copyButton("Copy", () => shown),
            entry.direction === "sent" && again,
          ),
        ),
      );
    };
    return details;
  }
}

function clock(time) {
  const part = (value, length = 2) => String(value).padStart(length, "0");
  const seconds = `${part(time.getSeconds())}.${part(time.getMilliseconds(), 3)}`;
  return `${part(time.getHours())}:${part(time.getMinutes())}:${seconds}`;
}

function gaps({ sincePrevious, sinceSent }) {
  const before = `${span(sincePrevious)} after the previous entry`;
  return sinceSent === null ? before : `${before}, ${span(sinceSent)} after the last that was sent`;
}

function preview(data) {
  const text = typeof data === "string" ? data : hex(data.subarray(0, PREVIEW / 3));
  return text.length > PREVIEW ? `${text.slice(0, PREVIEW)}…` : text;
}

function full(data, { value }) {
  if (typeof data !== "string") return hex(data);
  return value === undefined ? data : prettyJson(data);
}

function size(data) {
  const bytes = typeof data === "string" ? new TextEncoder().encode(data).length : data.length;
  return `${bytes} byte${bytes === 1 ? "" : "s"}${typeof data === "string" ? "" : ", binary"}`;
}
