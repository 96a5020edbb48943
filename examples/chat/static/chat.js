import { avatar, chosenName, element } from "../shared/page.js";
import { reconnecting, socketURL } from "../shared/reconnecting.js";

const KEPT_LINES = 300;
const GROUPED_MS = 60_000;
const NAMES_OF_EVENT = 3;
const TYPING_EVERY_MS = 2_000;
const TYPING_LASTS_MS = 3_500;
const NO_CONNECTION = "There is no connection at present. Your message is still here: send it again in a moment.";

const $ = (id) => document.getElementById(id);
const room = location.pathname.split("/").pop();
const me = await chosenName("What should the others call you?");
const people = new Set();
const typists = new Map();
let lastWhisper = "";
let group = {}; // the messages of one person that stand under one name and time
let comings = {}; // who joined and who left, on one line

$("room-name").textContent = `# ${room}`;
document.title = `#${room} · Chat · Hubbub`;
let link = [...$("rooms").querySelectorAll("a")].find((one) => one.textContent === room);
if (!link) {
  link = element("a", { href: room }, room);
  $("rooms").prepend(element("li", {}, link));
}
link.setAttribute("aria-current", "page");
link.scrollIntoView({ block: "nearest", inline: "nearest" });

const handlers = {
  said: ({ name, text }) => { stopped(name); message({ name, text }); },
  whispered: ({ name, to, text }) => { stopped(name); message({ name, text, to }); },
  joined: ({ name }) => { people.add(name); showPeople(); moved(name, "joined"); },
  left: ({ name }) => { people.delete(name); stopped(name); showPeople(); moved(name, "left"); },
  roster: ({ names }) => {
    people.clear();
    names.forEach((name) => people.add(name));
    $("people").classList.remove("stale");
    showPeople();
  },
  typing: ({ name }) => { if (name !== me) started(name); },
  absent: ({ name }) => {
    $("notice").textContent = `${name} is not in this room, and has not got your message.`;
    if ($("text").value) return;
    $("text").value = lastWhisper;
    aim(name);
  },
  error: () => { $("notice").textContent = "The server did not understand that message."; },
};

const socket = reconnecting(socketURL(room, { name: me }), {
  status: $("status"),
  onMessage: (received) => handlers[received.type]?.(received),
  onOpen: ({ again }) => {
    if ($("notice").textContent === NO_CONNECTION) $("notice").textContent = "";
    const gap = "Connected again. What was said meanwhile is not shown here.";
    if (again) append(element("li", { className: "event" }, gap));
  },
  onLost: () => $("people").classList.add("stale"),
});

function append(line) {
  const log = $("log");
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 60;
  log.append(line);
  while (log.childElementCount > KEPT_LINES) log.firstElementChild.remove();
  if (atEnd) log.scrollTop = log.scrollHeight;
}

/** Say who joined or left, on the line before if that says so of others. */
function moved(name, what) {
  if (name === me) return;
  if (!comings.line || comings.line !== $("log").lastElementChild) {
    comings = { line: element("li", { className: "event" }), names: new Map() };
  }
  const { line, names } = comings;
  const those = names.get(what) ?? new Set();
  names.delete(what); // what happened last stands last
  names.set(what, those.add(name));
  line.replaceChildren(...[...names].flatMap(([verb, who], number) => [
    ...(number ? [" · "] : []), element("span", {}, ...listed([...who]), ` ${verb}`),
  ]));
  append(line);
}

/** "Ada, Bob and Carol", or "Ada, Bob and 7 others". */
function listed(names) {
  const shown = names.length > NAMES_OF_EVENT ? names.slice(0, NAMES_OF_EVENT - 1) : names;
  const parts = shown.map((name) => element("bdi", {}, name));
  if (shown.length < names.length) parts.push(`${names.length - shown.length} others`);
  return parts.flatMap((part, number) => [number === 0 ? "" : number === parts.length - 1 ? " and " : ", ", part]);
}

function message({ name, text, to }) {
  const now = performance.now();
  const again = group.name === name && group.to === to && now - group.since < GROUPED_MS
    && group.line === $("log").lastElementChild;
  const time = new Date().toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  const by = element("span", { className: "by" }, element("bdi", {}, name === me ? "You" : name));
  if (to) by.append(" privately to ", element("bdi", {}, to === me ? "you" : to));
  by.append(` · ${time}`);
  const said = element("span", { className: "said", dir: "auto" }, text);
  const line = element("li", {}, avatar(name), ...(again ? [] : [by]), said);
  line.classList.toggle("again", again);
  line.classList.toggle("mine", name === me);
  line.classList.toggle("private", Boolean(to));
  group = { name, to, line, since: again ? group.since : now };
  append(line);
}

function showPeople() {
  const names = [...people].sort((a, b) => a.localeCompare(b));
  $("people").replaceChildren(...names.map((name) => {
    const button = element("button", { type: "button", disabled: name === me }, avatar(name), element("bdi", {}, name));
    if (name === me) button.append(element("small", {}, "you"));
    else button.title = `Write to ${name} privately`;
    button.onclick = () => { aim(name); $("text").focus(); };
    return element("li", {}, button);
  }));
  aim($("to").value); // whoever was chosen stays chosen when they leave: what was meant for one must not go to everyone
}

/** Choose who gets the next message: "" is everyone. */
function aim(to) {
  const others = new Set([...people].filter((name) => name !== me).sort((a, b) => a.localeCompare(b)));
  if (to) others.add(to);
  $("to").replaceChildren(
    element("option", { value: "" }, "Everyone"),
    ...[...others].map((name) => element("option", { value: name }, name)),
  );
  $("to").value = to;
  $("composer").classList.toggle("private", Boolean(to));
  $("text").placeholder = to ? `Write to ${to} privately` : "Write a message";
}

function started(name) {
  clearTimeout(typists.get(name));
  typists.set(name, setTimeout(() => stopped(name), TYPING_LASTS_MS));
  showTypists();
}

function stopped(name) {
  clearTimeout(typists.get(name));
  typists.delete(name);
  showTypists();
}

function showTypists() {
  const names = [...typists.keys()];
  const who = names.length > 3 ? "Several people" : names.join(", ");
  $("typing").textContent = names.length === 0 ? "" : `${who} ${names.length === 1 ? "is" : "are"} typing…`;
}

let typedAt = -Infinity;
$("text").oninput = () => {
  if ($("to").value || performance.now() - typedAt < TYPING_EVERY_MS) return;
  typedAt = performance.now();
  socket.send({ type: "typing" });
};

$("to").onchange = () => aim($("to").value);

$("composer").onsubmit = (submitted) => {
  submitted.preventDefault();
  const text = $("text").value.trim();
  const to = $("to").value;
  if (!text) return;
  if (!socket.send(to ? { type: "whisper", to, text } : { type: "say", text })) {
    $("notice").textContent = NO_CONNECTION;
    return;
  }
  if (to) lastWhisper = text;
  $("notice").textContent = "";
  $("text").value = "";
  aim("");
  typedAt = -Infinity;
};

$("go").onsubmit = (submitted) => {
  submitted.preventDefault();
  location.href = $("room").value;
};

showPeople();
