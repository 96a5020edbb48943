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
import { plural, span } from "./words.js";

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
  #pause = element("button.small", { "aria-pressed": "false", onclick: () => this.#togglePause() }, "Pause");
  #rows = new Map(); // number of the entry -> its line; in the order of the page
  #known = new WeakMap(); // entry -> what its message is
  #shownTo = 0; // number of the last entry that was looked at
  #kept = null; // the entries of the moment of the pause
  #follows = true;
  #scrolledTo = 0;
  #isDue = false;
  #recognise;
  #again;

  /** `recognise[direction](data)` tells what a message is; `again(data, name)` is called to edit one that was sent. */
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
    this.node = element(
      "div.log-view",
      element(
        "div.log-tools",
        this.#direction,
        this.#text,
        this.#pause,
        element("button.small", { onclick: () => this.#clear() }, "Clear"),
      ),
      this.#box,
      this.#note,
    );
    this.#direction.onchange = () => this.#refill();
    this.#text.oninput = () => this.#refill();
    this.#box.onscroll = () => {
      const { scrollHeight, scrollTop, clientHeight } = this.#box;
      this.#follows = scrollHeight - scrollTop - clientHeight < NEAR_END_PX;
      this.#scrolledTo = scrollTop;
    };
    // It is in sight again, where it begins at the top, or has another size.
    new ResizeObserver(() => this.#scroll()).observe(this.#box);
    this.#box.onkeydown = (event) => this.#walk(event);
    connection.addEventListener("entry", () => this.#schedule());
    this.#schedule();
  }

  #scroll() {
    this.#box.scrollTop = this.#follows ? this.#box.scrollHeight : this.#scrolledTo;
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

  get #entries() {
    return this.#kept ?? this.#connection.entries;
  }

  #togglePause() {
    this.#update();
    this.#kept = this.#kept ? null : [...this.#connection.entries];
    this.#pause.setAttribute("aria-pressed", String(this.#kept !== null));
    this.#update();
  }

  #clear() {
    this.#update();
    this.#shownTo = this.#newest;
    this.#connection.clear();
    if (this.#kept) this.#kept = [];
    this.#refill();
  }

  /** Number of the newest entry, whether it is shown or not. */
  get #newest() {
    return this.#connection.entries.at(-1)?.number ?? this.#shownTo;
  }

  #refill() {
    this.#rows.clear();
    this.#list.replaceChildren();
    this.#append(this.#entries.filter(({ number }) => number <= this.#shownTo));
    this.#follows = true;
    this.#update();
  }

  #update() {
    const entries = this.#entries;
    this.#append(entries.filter(({ number }) => number > this.#shownTo));
    this.#drop(entries[0]?.number ?? Infinity);
    this.#shownTo = entries.at(-1)?.number ?? this.#shownTo;
    if (this.#follows && !this.#kept) this.#scroll();
    this.#say(entries.length);
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

  /** Take the lines of entries out that the connection has dropped. */
  #drop(first) {
    for (const [number, line] of this.#rows) {
      if (number >= first) break;
      if (line.contains(document.activeElement)) this.#box.focus({ preventScroll: true });
      line.remove();
      this.#rows.delete(number);
    }
  }

  /** Whether a line is wanted: by its direction, and by the text of the message or its name. */
  #passes(entry) {
    const { direction, data } = entry;
    if (this.#direction.value && direction !== this.#direction.value) return false;
    const wanted = this.#text.value.trim().toLowerCase();
    const text = () => `${this.#about(entry).name}\n${typeof data === "string" ? data : preview(data)}`;
    return !wanted || text().toLowerCase().includes(wanted);
  }

  /** What the message of an entry is: its name, and whether it is JSON and an error. */
  #about(entry) {
    if (!this.#known.has(entry)) {
      const { name = "", value } = this.#recognise[entry.direction]?.(entry.data) ?? {};
      this.#known.set(entry, { name, isJson: value !== undefined, isError: value?.type === "error" });
    }
    return this.#known.get(entry);
  }

  #say(looked) {
    const waiting = this.#kept ? this.#newest - this.#shownTo : 0;
    const { dropped } = this.#connection;
    const all = plural(looked, "entry", "entries");
    const words = [
      this.#rows.size === looked ? all : `${this.#rows.size} of ${all}`,
      waiting > 0 && `${waiting} more while paused`,
      dropped > 0 && `${dropped} older dropped`,
    ]
      .filter(Boolean)
      .join(" · ");
    if (this.#note.textContent !== words) this.#note.textContent = words;
  }

  #line(entry) {
    const { direction, data, time } = entry;
    const { name, isError } = this.#about(entry);
    const summary = [
      element("time", { dateTime: time.toISOString() }, clock(time)),
      element("span.arrow", { "aria-hidden": "true" }, ARROWS[direction]),
      element("span.visually-hidden", WORDS[direction]),
      name && element("span.message-name", name),
      element("span.preview", preview(data)),
      element("span.gap", { title: gaps(entry) }, `+${span(entry.sincePrevious)}`),
    ];
    return element(
      `li.${direction}`,
      { "data-error": isError ? "" : null },
      direction === "event" ? element("p.line", summary) : this.#expandable(entry, summary),
    );
  }

  #expandable(entry, summary) {
    const details = element("details", element("summary.line", { tabIndex: -1 }, summary));
    details.ontoggle = () => {
      if (!details.open || details.childElementCount > 1) return;
      const { name, isJson } = this.#about(entry);
      const shown = typeof entry.data !== "string" ? hex(entry.data) : isJson ? prettyJson(entry.data) : entry.data;
      const again = () => this.#again(entry.data, name);
      details.append(
        element(
          "div.full",
          element("pre", { tabIndex: 0, "aria-label": "The message in full" }, shown),
          element("p.hint", gaps(entry), " · ", size(entry.data)),
          element(
            "div.actions",
            copyButton("Copy", () => shown),
            entry.direction === "sent" && element("button.small", { onclick: again }, "Edit and send again"),
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

function size(data) {
  const bytes = typeof data === "string" ? new TextEncoder().encode(data).length : data.length;
  return plural(bytes, "byte") + (typeof data === "string" ? "" : ", binary");
}
