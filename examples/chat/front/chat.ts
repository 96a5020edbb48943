// The page of a room. What the browser loads, static/chat.js, is compiled from this by `make front`.
import { avatar, chosenName, element } from "../shared/page.js";
import { connectChat } from "./api.js";
import type { ChatReceive, HubbubStatus } from "./api.js";

const KEPT_LINES = 300;
const GROUPED_MS = 60_000;
const NAMES_OF_EVENT = 3;
const TYPING_EVERY_MS = 2_000;
const TYPING_LASTS_MS = 3_500;
const NO_CONNECTION = "There is no connection at present. Your message is still here: send it again in a moment.";

/** A line of the log; `to` is there if it is for one person alone. */
interface Line {
  name: string;
  text: string;
  to?: string;
}

const $ = <T extends HTMLElement = HTMLElement>(id: string) => document.getElementById(id) as T;
const text = $<HTMLInputElement>("text");
const to = $<HTMLSelectElement>("to");
const room = location.pathname.split("/").pop()!;
const me: string = await chosenName("What should the others call you?");
const people = new Set<string>();
const typists = new Map<string, number>();
let lastWhisper = "";
let group: { name?: string; to?: string; line?: Element; since?: number } = {}; // what stands under one name and time
let comings: { line?: Element; names: Map<string, Set<string>> } = { names: new Map() }; // who joined and left, on one line
let wasOpen = false;

$("room-name").textContent = `# ${room}`;
document.title = `#${room} · Chat · Hubbub`;
const known = [...$("rooms").querySelectorAll("a")].find((one) => one.textContent === room);
const link: HTMLElement = known ?? element("a", { href: room }, room);
if (!known) $("rooms").prepend(element("li", {}, link));
link.setAttribute("aria-current", "page");
link.scrollIntoView({ block: "nearest", inline: "nearest" });

const socket = connectChat({ room, name: me }, {
  url: new URL("..", location.href), // rooms/lobby: the application begins above
  onMessage: received,
  onStatus: show,
});

/** What is published in the room comes in an envelope, what is for this page alone does not. */
function received(message: ChatReceive): void {
  if ("data" in message) return happened(message.data);
  if ("recovered" in message) {
    if (!message.recovered) event("Something that was said is missing here: the server does not remember it.");
    return;
  }
  switch (message.type) {
    case "typing":
      if (message.name !== me) started(message.name);
      break;
    case "whispered":
      stopped(message.name);
      said(message);
      break;
    case "roster":
      people.clear();
      message.names.forEach((name) => people.add(name));
      $("people").classList.remove("stale");
      showPeople();
      break;
    case "absent":
      $("notice").textContent = `${message.name} is not in this room, and has not got your message.`;
      if (text.value) return;
      text.value = lastWhisper;
      aim(message.name);
      break;
    case "error":
      $("notice").textContent = "The server did not understand that message.";
  }
}

type Happening = Extract<ChatReceive, { data: unknown }>["data"];

function happened(happening: Happening): void {
  const { name } = happening;
  switch (happening.type) {
    case "said":
      stopped(name);
      return said(happening);
    case "joined":
      people.add(name);
      break;
    case "left":
      people.delete(name);
      stopped(name);
  }
  showPeople();
  moved(name, happening.type);
}

function show(status: HubbubStatus): void {
  const line = $("status");
  switch (status.state) {
    case "open":
      line.dataset.state = "connected";
      line.textContent = wasOpen ? "Connected again" : "Connected";
      if ($("notice").textContent === NO_CONNECTION) $("notice").textContent = "";
      wasOpen = true;
      break;
    case "waiting":
      line.dataset.state = "reconnecting";
      line.textContent = status.reason ? `Reconnecting… (${status.reason})` : "Reconnecting…";
      $("people").classList.add("stale");
      break;
    case "closed":
      line.dataset.state = "closed";
      line.textContent = `The server has ended the connection (${status.reason || status.code}). Reload to come back.`;
  }
}

function event(what: string): void {
  append(element("li", { className: "event" }, what));
}

function append(line: Element): void {
  const log = $("log");
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 60;
  log.append(line);
  while (log.childElementCount > KEPT_LINES) log.firstElementChild?.remove();
  if (atEnd) log.scrollTop = log.scrollHeight;
}

/** Say who joined or left, on the line before if that says so of others. */
function moved(name: string, what: string): void {
  if (name === me) return;
  if (!comings.line || comings.line !== $("log").lastElementChild) {
    comings = { line: element("li", { className: "event" }), names: new Map() };
  }
  const { line, names } = comings;
  const those = names.get(what) ?? new Set<string>();
  names.delete(what); // what happened last stands last
  names.set(what, those.add(name));
  line!.replaceChildren(...[...names].flatMap(([verb, who], number) => [
    ...(number ? [" · "] : []), element("span", {}, ...listed([...who]), ` ${verb}`),
  ]));
  append(line!);
}

/** "Ada, Bob and Carol", or "Ada, Bob and 7 others". */
function listed(names: string[]): (string | Element)[] {
  const shown = names.length > NAMES_OF_EVENT ? names.slice(0, NAMES_OF_EVENT - 1) : names;
  const parts: (string | Element)[] = shown.map((name) => element("bdi", {}, name));
  if (shown.length < names.length) parts.push(`${names.length - shown.length} others`);
  return parts.flatMap((part, number) => [number === 0 ? "" : number === parts.length - 1 ? " and " : ", ", part]);
}

function said({ name, text, to }: Line): void {
  const now = performance.now();
  const again = group.name === name && group.to === to && now - (group.since ?? 0) < GROUPED_MS
    && group.line === $("log").lastElementChild;
  const time = new Date().toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  const by = element("span", { className: "by" }, element("bdi", {}, name === me ? "You" : name));
  if (to) by.append(" privately to ", element("bdi", {}, to === me ? "you" : to));
  by.append(` · ${time}`);
  const words = element("span", { className: "said", dir: "auto" }, text);
  const line = element("li", {}, avatar(name), ...(again ? [] : [by]), words);
  line.classList.toggle("again", again);
  line.classList.toggle("mine", name === me);
  line.classList.toggle("private", Boolean(to));
  group = { name, to, line, since: again ? group.since : now };
  append(line);
}

function showPeople(): void {
  const names = [...people].sort((a, b) => a.localeCompare(b));
  $("people").replaceChildren(...names.map((name) => {
    const button = element("button", { type: "button", disabled: name === me }, avatar(name), element("bdi", {}, name));
    if (name === me) button.append(element("small", {}, "you"));
    else button.title = `Write to ${name} privately`;
    button.onclick = () => { aim(name); text.focus(); };
    return element("li", {}, button);
  }));
  aim(to.value); // whoever was chosen stays chosen when they leave: what was meant for one must not go to everyone
}

/** Choose who gets the next message: "" is everyone. */
function aim(whom: string): void {
  const others = new Set([...people].filter((name) => name !== me).sort((a, b) => a.localeCompare(b)));
  if (whom) others.add(whom);
  to.replaceChildren(
    element("option", { value: "" }, "Everyone"),
    ...[...others].map((name) => element("option", { value: name }, name)),
  );
  to.value = whom;
  $("composer").classList.toggle("private", Boolean(whom));
  text.placeholder = whom ? `Write to ${whom} privately` : "Write a message";
}

function started(name: string): void {
  clearTimeout(typists.get(name));
  typists.set(name, setTimeout(() => stopped(name), TYPING_LASTS_MS));
  showTypists();
}

function stopped(name: string): void {
  clearTimeout(typists.get(name));
  typists.delete(name);
  showTypists();
}

function showTypists(): void {
  const names = [...typists.keys()];
  const who = names.length > 3 ? "Several people" : names.join(", ");
  $("typing").textContent = names.length === 0 ? "" : `${who} ${names.length === 1 ? "is" : "are"} typing…`;
}

let typedAt = -Infinity;
text.oninput = () => {
  if (to.value || performance.now() - typedAt < TYPING_EVERY_MS) return;
  typedAt = performance.now();
  socket.send({ type: "typing" });
};

to.onchange = () => aim(to.value);

$("composer").onsubmit = (submitted) => {
  submitted.preventDefault();
  const words = text.value.trim();
  const whom = to.value;
  if (!words) return;
  if (!socket.send(whom ? { type: "whisper", to: whom, text: words } : { type: "say", text: words })) {
    $("notice").textContent = NO_CONNECTION;
    return;
  }
  if (whom) lastWhisper = words;
  $("notice").textContent = "";
  text.value = "";
  aim("");
  typedAt = -Infinity;
};

$("go").onsubmit = (submitted) => {
  submitted.preventDefault();
  location.href = $<HTMLInputElement>("room").value;
};

showPeople();
