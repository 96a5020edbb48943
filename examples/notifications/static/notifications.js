import { chosenName, element } from "../shared/page.js";
import { reconnecting, socketURL } from "../shared/reconnecting.js";

const COPIED_MS = 2_000;

const $ = (id) => document.getElementById(id);
const me = await chosenName("Whose notifications are these?");
const inbox = new Map(); // id -> { notification, line }
let size = Infinity;

const handlers = {
  inbox: (received) => {
    size = received.size;
    inbox.clear();
    $("list").replaceChildren();
    received.notifications.forEach(add);
  },
  arrived: ({ notification }) => add(notification).classList.add("new"),
  were_read: ({ ids }) => {
    for (const id of ids) if (inbox.has(id)) inbox.get(id).notification.read = true;
  },
};

const socket = reconnecting(socketURL(`devices/${encodeURIComponent(me)}`), {
  status: $("status"),
  onMessage: (received) => {
    handlers[received.type]?.(received);
    show();
  },
});

function add(notification) {
  const at = new Date(notification.at);
  const meta = element("span", { className: "meta" });
  if (notification.urgent) meta.append(element("span", { className: "urgent" }, "Urgent"), " · ");
  meta.append(element("time", { dateTime: notification.at }, at.toLocaleString([], { dateStyle: "medium", timeStyle: "short" })));

  const button = element("button", { type: "button" }, element("span", {}, "Mark as read"));
  button.onclick = () => markRead([notification.id]);
  const text = element("span", { className: "text", dir: "auto" }, notification.text);
  const line = element("li", {}, text, meta, button);
  inbox.set(notification.id, { notification, line });
  $("list").prepend(line);

  if (inbox.size > size) {
    const [oldest, { line: last }] = inbox.entries().next().value;
    inbox.delete(oldest);
    last.remove();
  }
  return line;
}

function unreadIds() {
  return [...inbox.values()].filter(({ notification }) => !notification.read).map(({ notification }) => notification.id);
}

function show() {
  for (const { notification, line } of inbox.values()) line.classList.toggle("unread", !notification.read);
  const unread = unreadIds().length;
  $("unread").dataset.count = unread;
  $("unread").textContent = inbox.size === 0 ? "" : unread === 0 ? "All read" : `${unread} unread`;
  $("read-all").disabled = unread === 0;
  $("empty").hidden = inbox.size > 0;
  document.title = `${unread ? `(${unread}) ` : ""}Notifications · Hubbub`;
}

/** Ask only: the server's answer, which goes to every tab, is what changes the page. */
function markRead(ids) {
  socket.send({ type: "mark_read", ids });
}

$("read-all").onclick = () => markRead(unreadIds());

function notifyURL() {
  return new URL(`notify/${encodeURIComponent($("to").value.trim())}`, location.href);
}

function showCommand() {
  const address = notifyURL().href.replaceAll("'", "%27");
  $("curl").textContent = `curl '${address}' -H 'content-type: application/json' -d '{"text": "Your tea is ready"}'`;
}

$("form").onsubmit = async (submitted) => {
  submitted.preventDefault();
  const body = JSON.stringify({ text: $("text").value, urgent: $("urgent").checked });
  let problem = "";
  try {
    const response = await fetch(notifyURL(), { method: "POST", headers: { "content-type": "application/json" }, body });
    if (!response.ok) problem = `The server did not take it (${response.status}).`;
  } catch {
    problem = "The server cannot be reached. Nothing was sent.";
  }
  $("outcome").toggleAttribute("data-failed", Boolean(problem));
  const time = new Date().toLocaleTimeString(); // or a second one could not be told from the first
  $("outcome").textContent = problem || `Sent to ${$("to").value.trim()} at ${time}.`;
  if (!problem) $("text").value = "";
};

$("copy").onclick = async () => {
  try {
    await navigator.clipboard.writeText($("curl").textContent);
    $("copy").textContent = "Copied";
    setTimeout(() => { $("copy").textContent = "Copy"; }, COPIED_MS);
  } catch { // not allowed, or not over HTTPS: then it is selected at least
    getSelection().selectAllChildren($("curl"));
  }
};

$("to").oninput = showCommand;
$("to").value = me;
showCommand();
