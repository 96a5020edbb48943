import { avatar, chosenName, element } from "../shared/page.js";
import { reconnecting, socketURL } from "../shared/reconnecting.js";

const KEPT_LINES = 300;
const TYPING_EVERY_MS = 2_000;
const TYPING_LASTS_MS = 3_500;

const $ = (id) => document.getElementById(id);
const room = location.pathname.split("/").pop();
const me = await chosenName("What should the others call you?");
const people = new Set();
const typists = new Map();
let lastSent = "";

$("room-name").textContent = `# ${room}`;
document.title = `#${room} · Chat · Hubbub`;
for (const link of $("rooms").querySelectorAll("a")) {
  if (link.textContent === room) link.setAttribute("aria-current", "page");
}

const handlers = {
  said: ({ name, text }) => { stopped(name); message({ name, text }); },
  whispered: ({ name, to, text }) => { stopped(name); message({ name, text, to }); },
  joined: ({ name }) => { people.add(name); showPeople(); event(name, "joined"); },
  left: ({ name }) => { people.delete(name); stopped(name); showPeople(); event(name, "left"); },
  roster: ({ names }) => { people.clear(); names.forEach((name) => people.add(name)); showPeople(); },
  typing: ({ name }) => { if (name !== me) started(name); },
  absent: ({ name }) => {
    $("notice").textContent = `${name} is not in this room, and has not got your message.`;
    $("text").value ||= lastSent;
  },
  error: () => { $("notice").textContent = "The server did not understand that message."; },
};

const socket = reconnecting(socketURL(room, { name: me }), {
  status: $("status"),
  onMessage: (received) => handlers[received.type]?.(received),
  onOpen: ({ again }) => { if (again) event("", "Connected again. What was said meanwhile is not shown here."); },
  onLost: () => { people.clear(); showPeople(); },
});

function append(line) {
  const log = $("log");
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 60;
  log.append(line);
  while (log.childElementCount > KEPT_LINES) log.firstElementChild.remove();
  if (atEnd) log.scrollTop = log.scrollHeight;
}

function event(name, what) {
  append(element("li", { className: "event" }, element("bdi", {}, name), ` ${what}`));
}

function message({ name, text, to }) {
  const time = new Date().toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  const by = element("span", { className: "by" }, element("bdi", {}, name === me ? "You" : name));
  if (to) by.append(" privately to ", element("bdi", {}, to === me ? "you" : to));
  by.append(` · ${time}`);
  const said = element("span", { className: "said", dir: "auto" }, text);
  const line = element("li", {}, avatar(name), by, said);
  line.classList.toggle("mine", name === me);
  line.classList.toggle("private", Boolean(to));
  append(line);
}

function showPeople() {
  const names = [...people].sort((a, b) => a.localeCompare(b));
  $("people").replaceChildren(...names.map((name) => {
    const button = element("button", { type: "button", disabled: name === me }, avatar(name), element("bdi", {}, name));
    if (name === me) button.append(element("small", {}, "you"));
    else button.title = `Write to ${name} privately`;
    button.onclick = () => { $("to").value = name; aimed(); $("text").focus(); };
    return element("li", {}, button);
  }));

  // Whoever was chosen stays chosen when they leave: what was meant for one must not go to everyone.
  const chosen = $("to").value;
  const others = new Set(names.filter((name) => name !== me));
  if (chosen) others.add(chosen);
  $("to").replaceChildren(
    element("option", { value: "" }, "Everyone"),
    ...[...others].map((name) => element("option", { value: name }, name)),
  );
  $("to").value = chosen;
  aimed();
}

function aimed() {
  const to = $("to").value;
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

$("to").onchange = aimed;

$("composer").onsubmit = (submitted) => {
  submitted.preventDefault();
  const text = $("text").value.trim();
  const to = $("to").value;
  if (!text) return;
  if (!socket.send(to ? { type: "whisper", to, text } : { type: "say", text })) {
    $("notice").textContent = "There is no connection at present. Your message is still here: send it again in a moment.";
    return;
  }
  lastSent = text;
  $("notice").textContent = "";
  $("text").value = "";
  typedAt = -Infinity;
};

$("go").onsubmit = (submitted) => {
  submitted.preventDefault();
  location.href = $("room").value;
};

showPeople();
