// The conversation in JavaScript, for Node's `ws` and for a browser: both have the same WebSocket class. What only one
// of them can do (pings, fragments, counting bytes) comes in as functions. python.py has the same conversation.
"use strict";

const SIZES = [0, 1, 125, 126, 65535, 65536, 1048576];
const CLOSES = [[1000, ""], [3000, "bye"], [4999, "é".repeat(61)]];
const SEVERAL = 5;
const DEADLINE_MS = 15000;

// A socket whose messages and end are awaited in order.
class Talk {
  constructor(socket) {
    this.socket = socket;
    socket.binaryType = "arraybuffer";
    this.events = [];
    this.wanted = [];
    socket.onopen = () => this.happened({ opened: true });
    socket.onmessage = (event) => this.happened({ data: event.data });
    socket.onclose = (event) => this.happened({ closed: [event.code, event.reason] });
    socket.onerror = () => {};  // a close follows
  }

  happened(event) {
    if (this.wanted.length) this.wanted.shift()(event);
    else this.events.push(event);
  }

  next() {
    return this.events.length ? Promise.resolve(this.events.shift()) : new Promise((done) => this.wanted.push(done));
  }

  async expect(name) {
    const event = await this.next();
    if (!(name in event)) throw new Error(`${JSON.stringify(event).slice(0, 100)} instead of ${name}`);
    return event[name];
  }

  async ask(message) {
    this.socket.send(message);
    return this.expect("data");
  }
}

function same(found, wanted, what) {
  const [one, other] = [JSON.stringify(found), JSON.stringify(wanted)];
  if (one !== other) throw new Error(`${what}: ${String(one).slice(0, 80)}, not ${String(other).slice(0, 80)}`);
}

function bytes(size) {
  const filled = new Uint8Array(size);
  for (let index = 0, state = 1; index < size; index++) {
    state = Math.imul(state, 1664525) + 1013904223 | 0;
    filled[index] = state >>> 24;
  }
  return filled;
}

function sameBytes(found, wanted, what) {
  same(found.byteLength, wanted.length, `${what}: length`);
  const view = new Uint8Array(found);
  if (!wanted.every((byte, index) => view[index] === byte)) throw new Error(`${what}: other bytes`);
}

// The parts of the conversation, in their order. `can` has what this client can do beside a browser's class.
const STEPS = {
  compression: async (open, can, deflate) => {
    const { socket } = await open("/echo");
    same(socket.extensions.startsWith("permessage-deflate"), deflate, "negotiated");
  },
  text: async (open) => {
    const talk = await open("/echo");
    for (const size of SIZES) {
      const text = "é".repeat(size >> 1) + "x".repeat(size & 1);
      if (await talk.ask(text) !== text) throw new Error(`${size} bytes came back as others`);
    }
  },
  binary: async (open) => {
    const talk = await open("/echo");
    for (const size of SIZES) sameBytes(await talk.ask(bytes(size)), bytes(size), `${size} bytes`);
  },
  subprotocol: async (open) => {
    same((await open("/echo", ["chat.v1", "chat.v2"])).socket.protocol, "chat.v2", "chosen");
    same((await open("/echo")).socket.protocol, "", "none offered");
  },
  heartbeat: async (open) => same(await (await open("/heartbeat")).expect("data"), "answered", "heartbeat"),
  "server closes": async (open) => {
    for (const [code, reason] of CLOSES) {
      const talk = await open(`/closes?code=${code}&reason=${encodeURIComponent(reason)}`);
      same(await talk.expect("closed"), [code, reason], "seen by the client");
    }
  },
  "client closes": async (open, can, deflate, name) => {
    const witness = await open(`/witness/${name}`);
    same(await witness.expect("data"), "", "witness");
    for (const [code, reason] of [...CLOSES, []]) {
      const talk = await open(`/watched/${name}`);
      talk.socket.close(...(code ? [code, reason] : []));
      same((await talk.expect("closed"))[0], code || 1005, "answered");
      same(JSON.parse(await witness.expect("data")), [code || 1005, reason || ""], "seen by the server");
    }
  },
  broadcast: async (open, can, deflate, name) => {
    const talks = [];
    for (let index = 0; index < SEVERAL; index++) talks.push(await open(`/everyone/${name}`));
    for (const talk of talks) same(await talk.expect("data"), "", "joined");
    for (const message of ["to all", "é".repeat(1000)]) {
      talks[0].socket.send(message);
      for (const talk of talks) same(await talk.expect("data"), message, "heard");
    }
    talks[1].socket.send(bytes(70000));
    for (const talk of talks) sameBytes(await talk.expect("data"), bytes(70000), "heard");
  },
  detached: async (open, can, deflate, name) => {
    const witness = await open(`/witness/${name}-detached`);
    same(await witness.expect("data"), "", "witness");
    const talk = await open(`/detached/${name}-detached`);
    for (const size of SIZES) sameBytes(await talk.ask(bytes(size)), bytes(size), `${size} bytes`);
    for (const text of ["", "x", "é".repeat(100000)]) same(await talk.ask(text), text, "text");
    talk.socket.close(4000, "done");
    same(JSON.parse(await witness.expect("data")), [4000, "done"], "seen by the server");
  },
  ping: async (open, can) => {
    const { socket } = await open("/echo");
    for (const payload of ["", "x", "y".repeat(125)]) same(await can.ping(socket, payload), payload, "pong");
  },
  fragments: async (open, can) => {
    const talk = await open("/echo");
    for (const parts of [["a", "", "b"], ["é".repeat(40000), "x"], ["", "", ""], [...Array(1000).fill("é")]]) {
      can.sendParts(talk.socket, parts);
      same(await talk.expect("data"), parts.join(""), "joined");
    }
    can.sendParts(talk.socket, [bytes(1000), bytes(0), bytes(70000)]);
    sameBytes(await talk.expect("data"), new Uint8Array([...bytes(1000), ...bytes(70000)]), "joined");
  },
  "bytes on the wire": async (open, can, deflate) => {
    const talk = await open("/echo");
    await talk.ask("x".repeat(100000));
    same(can.bytesRead(talk.socket) < 20000, deflate, "fewer");
  },
};

const NEEDS = { ping: "ping", fragments: "sendParts", "bytes on the wire": "bytesRead" };

// Return what each step has ended with: null, or what is wrong. `connect` makes a socket of a URL and subprotocols.
async function converse(base, deflate, name, connect, can = {}) {
  const results = {};
  for (const [step, run] of Object.entries(STEPS)) {
    if (NEEDS[step] && !can[NEEDS[step]]) continue;
    const talks = [];
    const open = async (path, subprotocols = []) => {
      const talk = new Talk(connect(base + path, subprotocols));
      talks.push(talk);
      await talk.expect("opened");
      return talk;
    };
    let timer;
    const late = new Promise((_, fail) => { timer = setTimeout(() => fail(new Error("it takes too long")), DEADLINE_MS); });
    results[step] = await Promise.race([run(open, can, deflate, name), late]).then(() => null, (error) => error.message);
    clearTimeout(timer);
    for (const { socket } of talks) socket.close();
  }
  return results;
}

if (typeof module !== "undefined") module.exports = { converse };
