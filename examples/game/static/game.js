import { avatar, chosenName, element } from "../shared/page.js";
import { reconnecting, socketURL } from "../shared/reconnecting.js";
import { draw } from "./draw.js";
import { steering } from "./steering.js";

const DELAY_TICKS = 2; // how far behind the server the picture is, so that there is a frame on either side of it
const KEPT_TICKS = 1_000;

const $ = (id) => document.getElementById(id);
const arena = location.pathname.split("/").pop();
const me = await chosenName("What should the others call you?");

let welcome = null;
let frames = [];
let offset = Infinity; // the least of (arrival - time of the tick): the clock of the server as seen from here
window.__ticks = []; // what arrived, for whoever wants to see that it only ever rises
window.__frame = null;

const handlers = {
  welcome: (received) => {
    welcome = received;
    frames = [];
    offset = Infinity;
    window.__ticks = [];
  },
  frame: (frame) => {
    frames.push(frame);
    if (frames.length > 10) frames.shift();
    offset = Math.min(offset + 0.5, performance.now() - milliseconds(frame.tick)); // + 0.5: clocks drift
    showScores(frame.players);
    window.__frame = frame;
    window.__ticks.push(frame.tick);
    if (window.__ticks.length > KEPT_TICKS) window.__ticks.shift();
  },
};

const socket = reconnecting(socketURL(arena, { name: me }), {
  status: $("status"),
  onMessage: (received) => handlers[received.type]?.(received),
  onOpen: () => steer.again(),
});

const steer = steering($("stick"), (x, y) => socket.send({ type: "steer", x, y }));

function milliseconds(ticks) {
  return (ticks * 1000) / (welcome?.ticks_per_s ?? 20);
}

/** The players between the two frames around a moment, each on the straight line from where it was to where it is. */
function playersAt(tick) {
  const next = frames.findIndex((frame) => frame.tick > tick);
  if (next < 1) return frames.at(next).players;
  const [from, to] = [frames[next - 1], frames[next]];
  const share = (tick - from.tick) / (to.tick - from.tick);
  const before = new Map(from.players.map((player) => [player.id, player]));
  return to.players.map((player) => {
    const { x, y } = before.get(player.id) ?? player;
    return { ...player, x: x + (player.x - x) * share, y: y + (player.y - y) * share };
  });
}

function animate(now) {
  requestAnimationFrame(animate);
  if (!frames.length) return;
  const players = playersAt((now - offset) / milliseconds(1) - DELAY_TICKS);
  draw($("arena"), { size: welcome.size, you: welcome.you, players, gems: frames.at(-1).gems, now });
}

let shown = "";
let names = new Map();

function showScores(players) {
  const sorted = [...players].sort((a, b) => b.score - a.score || a.name.localeCompare(b.name));
  const now = JSON.stringify(sorted.map(({ id, name, score }) => [id, name, score]));
  if (now === shown) return;
  shown = now;
  $("scores").replaceChildren(...sorted.map(({ id, name, score }) => {
    const line = element("li", { title: name }, avatar(name), element("bdi", {}, name), element("strong", {}, String(score)));
    line.classList.toggle("mine", id === welcome.you);
    return line;
  }));
  announce(new Map(sorted.map(({ id, name }) => [id, name])));
}

function announce(present) {
  const news = [];
  for (const [id, name] of present) if (!names.has(id)) news.push(`${name} joined.`);
  for (const [id, name] of names) if (!present.has(id)) news.push(`${name} left.`);
  if (news.length) $("events").textContent = news.join(" ");
  names = present;
}

requestAnimationFrame(animate);
