// What the generated client does, on a WebSocket and a clock of its own. Prints {scenario: null or what went wrong}.
// The argument is the file that was generated from the document in tests/cli/test_typescript.py.
import assert from "node:assert/strict";
import { pathToFileURL } from "node:url";

const BASE = "https://example.org";
const FINAL = [1000, 1002, 1003, 1007, 1008, 1009, 3503, 4000, 4999];
const PASSING = [1001, 1005, 1006, 1011, 1012, 1013, 3008];

/** Timers that pass when a scenario says so. */
class Clock {
  now = 0;
  #timers = new Map();
  #next = 1;

  install() {
    globalThis.setTimeout = (callback, delay = 0) => {
      this.#timers.set(this.#next, { callback, due: this.now + delay });
      return this.#next++;
    };
    globalThis.clearTimeout = (timer) => this.#timers.delete(timer);
  }

  get isIdle() {
    return this.#timers.size === 0;
  }

  async pass(ms) {
    const end = this.now + ms;
    for (;;) {
      const due = [...this.#timers].filter(([, timer]) => timer.due <= end).sort(([, a], [, b]) => a.due - b.due);
      if (!due.length) break;
      const [id, timer] = due[0];
      this.#timers.delete(id);
      this.now = timer.due;
      timer.callback();
      await settled();
    }
    this.now = end;
  }
}

/** A WebSocket that a scenario plays the server of. */
class Socket {
  static all = [];
  readyState = 0;
  sent = [];

  constructor(url) {
    this.url = url;
    Socket.all.push(this);
  }

  open() {
    this.readyState = 1;
    this.onopen?.({});
  }

  hear(message) {
    this.hearData(JSON.stringify(message));
  }

  hearData(data) {
    this.onmessage?.({ data });
  }

  end(code = 1006, reason = "") {
    this.readyState = 3;
    this.onerror({});
    this.onclose?.({ code, reason });
  }

  send(data) {
    this.sent.push(data);
  }

  close(code, reason) {
    if (code !== undefined && code !== 1000 && !(code >= 3000 && code < 5000)) throw new Error("InvalidAccessError");
    this.readyState = 2;
    this.closed = [code, reason];
  }
}

const settled = () => new Promise(setImmediate);
const newest = () => Socket.all.at(-1);
const query = () => Object.fromEntries(new URL(newest().url).searchParams);
const envelope = (offset, { channel = "room:a", epoch = "e" } = {}) => ({ channel, epoch, offset, data: {} });

const client = await import(pathToFileURL(process.argv[2]));
let clock, messages, statuses, errors, listeners, connection;

function reset() {
  clock = new Clock();
  clock.install();
  Socket.all = [];
  [messages, statuses, errors] = [[], [], []];
  listeners = new Map();
  globalThis.addEventListener = (name, listener) => listeners.set(name, listener);
  globalThis.removeEventListener = (name, listener) => listeners.get(name) === listener && listeners.delete(name);
  globalThis.location = { href: `${BASE}/app/rooms/lobby?name=x#y` };
  globalThis.WebSocket = Socket;
  Math.random = () => 0.999999;
}

/** Connect, and let the first attempt begin. */
async function start(connect, parameters, options = {}) {
  connection = client[connect](parameters, {
    onMessage: (message) => messages.push(message),
    onStatus: (status) => statuses.push(status),
    onError: (error) => errors.push(String(error)),
    ...options,
  });
  await clock.pass(0);
  return newest();
}

const chat = (options, parameters = {}) => start("connectChat", { room: "lobby", name: "Ada", ...parameters }, options);
const address = async (connect, parameters, options) => (await start(connect, parameters, options)).url;
const states = () => statuses.map(({ state }) => state);

/** Lose the connection, and come back. */
async function comeBack(code = 1012) {
  newest().end(code);
  await clock.pass(20_000);
  newest().open();
}

const scenarios = {
  async "parameters go into the path and the query"() {
    const parameters = { room: "a b/ü?", name: "Ada & Bob", tag: ["x", "y"], quiet: false, level: 2, since: undefined };
    assert.equal(
      await address("connectChat", parameters),
      "wss://example.org/rooms/a%20b%2F%C3%BC%3F?name=Ada+%26+Bob&tag=x&tag=y&quiet=false&level=2",
    );
  },

  async "a parameter that may contain slashes keeps them"() {
    const found = await address("connectFiles", { path: "a/b c//d.txt" });
    assert.equal(found, "wss://example.org/f%C3%BCr/files/a/b%20c//d.txt");
  },

  async "what no address can say is refused at once"() {
    for (const room of ["", ".", ".."]) {
      assert.throws(() => client.connectChat({ room, name: "Ada" }), /room cannot be/);
    }
    for (const path of ["..", "a/../b", "./a"]) assert.throws(() => client.connectFiles({ path }), /path cannot be/);
    assert.deepEqual([Socket.all, listeners.size, clock.isIdle], [[], 0, true]);
  },

  async "the base is a path, relative to the page, or anywhere"() {
    const bases = {
      "/": "wss://example.org/feed",
      "/app": "wss://example.org/app/feed",
      "/app/": "wss://example.org/app/feed",
      "./": "wss://example.org/app/rooms/feed",
      "..": "wss://example.org/app/feed",
      "http://127.0.0.1:8000": "ws://127.0.0.1:8000/feed",
      "ws://127.0.0.1:8000/a?b#c": "ws://127.0.0.1:8000/a/feed",
    };
    for (const [url, expected] of Object.entries(bases)) {
      assert.equal(await address("connectFeed", {}, { url }), expected);
    }
    const url = new URL("https://example.com/b");
    assert.equal(await address("connectFeed", {}, { url }), "wss://example.com/b/feed");
  },

  async "outside of a page the base must be absolute"() {
    delete globalThis.location;
    delete globalThis.addEventListener;
    delete globalThis.removeEventListener;
    assert.throws(() => client.connectFeed(), /Invalid URL/);
    assert.equal(await address("connectFeed", {}, { url: "http://localhost:1" }), "ws://localhost:1/feed");
    connection.close();
  },

  async "a WebSocket can be given"() {
    delete globalThis.WebSocket;
    assert.equal((await chat({ WebSocket: Socket })).url.slice(0, 6), "wss://");
  },

  async "no callback is called before the connection is returned"() {
    client.connectChat({ room: "a", name: "b" }, { onStatus: (status) => statuses.push(status) });
    assert.deepEqual([states(), Socket.all], [[], []]);
    await clock.pass(0);
    assert.deepEqual([states(), Socket.all.length], [["connecting"], 1]);
  },

  async "the status says how it is"() {
    const socket = await chat();
    assert.deepEqual(connection.status, { state: "connecting" });
    socket.open();
    socket.end(1012, "restart");
    await clock.pass(1_000);
    newest().open();
    newest().end(4001, "signed out");
    assert.deepEqual(states(), ["connecting", "open", "waiting", "connecting", "open", "closed"]);
    const { delayMs, ...rest } = statuses[2];
    assert.ok(delayMs > 249 && delayMs < 250);
    assert.deepEqual(rest, { state: "waiting", code: 1012, reason: "restart", attempts: 1 });
    assert.deepEqual(connection.status, { state: "closed", code: 4001, reason: "signed out", attempts: 2 });
  },

  async "delays double, up to the longest, with up to half taken off"() {
    for (const [random, part] of [[0, 0.5], [0.5, 0.75], [0.999999, 1]]) {
      reset();
      Math.random = () => random;
      await chat();
      for (const full of [250, 500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000]) {
        const before = Socket.all.length;
        newest().end();
        await clock.pass(full * part - 1);
        assert.equal(Socket.all.length, before, `too early: ${full}`);
        await clock.pass(1);
        assert.equal(Socket.all.length, before + 1, `too late: ${full}`);
      }
    }
  },

  async "delays can be chosen"() {
    await chat({ firstDelayMs: 1_000, longestDelayMs: 3_000 });
    for (let times = 0; times < 3; times++) await comeBack();
    const delays = statuses.filter(({ state }) => state === "waiting").map(({ delayMs }) => Math.round(delayMs));
    assert.deepEqual(delays, [1_000, 2_000, 3_000]);
  },

  async "delays begin anew only after a connection that has held"() {
    await chat();
    const waited = [];
    for (const held of [0, 0, 4_999, 5_000, 0]) {
      newest().open();
      await clock.pass(held);
      newest().end(1011);
      waited.push(Math.round(connection.status.delayMs));
      await clock.pass(20_000);
    }
    assert.deepEqual(waited, [250, 500, 1_000, 250, 500]);
  },

  async "it comes back at once when the browser is online again"() {
    await chat();
    const online = listeners.get("online");
    online(); // connecting
    newest().open();
    online(); // open
    assert.equal(Socket.all.length, 1);
    newest().end();
    online();
    await settled();
    assert.equal(Socket.all.length, 2);
    newest().open();
    await clock.pass(60_000);
    assert.deepEqual([Socket.all.length, connection.status.state], [2, "open"]);
    newest().end(1000);
    assert.equal(listeners.size, 0);
    online();
    await clock.pass(60_000);
    assert.equal(Socket.all.length, 2);
  },

  async "codes after which nobody is expected are final"() {
    for (const code of FINAL) {
      reset();
      (await chat()).open();
      newest().end(code, "why");
      assert.deepEqual(connection.status, { state: "closed", code, reason: "why", attempts: 1 });
      await clock.pass(60_000);
      assert.deepEqual([Socket.all.length, clock.isIdle, listeners.size], [1, true, 0], `after ${code}`);
    }
  },

  async "after all others it comes back"() {
    const patience = ["messages_per_s", "first_message_s", "idle_s"].map((reason) => [1008, reason]);
    for (const [code, reason] of [...PASSING.map((code) => [code, ""]), ...patience]) {
      reset();
      (await chat()).open();
      newest().end(code, reason);
      await clock.pass(250);
      assert.equal(Socket.all.length, 2, `after ${code} ${reason}`);
    }
  },

  async "an application that fails to decide does not keep it from coming back"() {
    const reconnect = () => {
      throw new Error("undecided");
    };
    (await chat({ reconnect })).open();
    newest().end(1012);
    await clock.pass(250);
    assert.deepEqual([Socket.all.length, errors], [2, ["Error: undecided"]]);
  },

  async "whatever onError does, it comes back"() {
    const onError = () => {
      throw new Error("worse");
    };
    const parameters = () => Promise.reject(new Error("no token"));
    const told = console.error;
    const worse = [];
    console.error = (error) => worse.push(String(error));
    try {
      connection = client.connectChat(parameters, { onError });
      await clock.pass(0);
      await clock.pass(250);
    } finally {
      console.error = told;
    }
    assert.deepEqual([worse, connection.status.state], [["Error: worse", "Error: worse"], "waiting"]);
  },

  async "an attempt that cannot say where it was says so"() {
    (await chat()).open();
    for (const channel of ["room:a", "room:b"]) newest().hear({ channel, epoch: "e", offset: 1, recovered: true });
    await comeBack();
    assert.match(errors[0], /several channels were heard: give a function/);
    assert.equal(new URL(newest().url).searchParams.has("since"), false);
  },

  async "where all JSON is objects, what else looks like JSON is a text"() {
    (await start("connectMixed", {})).open();
    for (const text of ["1", "null", '"x"', "ready", '{"a":1}']) newest().hearData(text);
    assert.deepEqual(messages, ["1", "null", '"x"', "ready", { a: 1 }]);
  },

  async "a message that only looks like a position is none"() {
    (await chat()).open();
    newest().hear({ channel: "room:a", epoch: "e", offset: 1, recovered: true });
    newest().hear({ epoch: "stone age", offset: 7 });
    assert.deepEqual([...connection.positions], [["room:a", "e:1"]]);
  },

  async "the application can decide"() {
    const asked = [];
    const reconnect = (close, byDefault) => {
      asked.push([close.code, close.attempts, byDefault]);
      return close.code === 4001 || (byDefault && close.attempts < 3);
    };
    await chat({ reconnect });
    for (const code of [4001, 1012, 1012]) {
      newest().end(code);
      await clock.pass(1_000);
    }
    assert.deepEqual(asked, [[4001, 1, false], [1012, 2, true], [1012, 3, true]]);
    assert.deepEqual([connection.status.state, Socket.all.length], ["closed", 3]);
  },

  async "it sends only what goes out at once"() {
    const socket = await chat();
    const say = { type: "say", text: "Hello" };
    assert.equal(connection.send(say), false);
    socket.open();
    assert.equal(connection.send(say), true);
    socket.readyState = 2; // the close has begun, and nobody was told
    assert.equal(connection.send(say), false);
    socket.end();
    assert.equal(connection.send(say), false);
    await clock.pass(250);
    newest().open();
    connection.close();
    assert.equal(connection.send(say), false);
    assert.deepEqual(Socket.all.map(({ sent }) => sent), [['{"type":"say","text":"Hello"}'], []]);
  },

  async "what is not JSON is sent and received as it is"() {
    const socket = await start("connectFiles", { path: "a" });
    socket.open();
    const bytes = new Uint8Array([1, 2]);
    connection.send(bytes);
    connection.send("1");
    const received = new ArrayBuffer(2);
    socket.hearData(received);
    socket.hearData('{"a":1}');
    assert.deepEqual(socket.sent, [bytes, "1"]);
    assert.deepEqual(messages, [received, '{"a":1}']);
    assert.equal(socket.binaryType, "arraybuffer");
  },

  async "what is not JSON where it should be is reported"() {
    const socket = await chat();
    socket.open();
    socket.hearData("{");
    socket.hear({ type: "said", text: "Hello" });
    assert.deepEqual(messages, [{ type: "said", text: "Hello" }]);
    assert.match(errors.join(), /^SyntaxError/);
  },

  async "texts and JSON can come from one endpoint"() {
    const socket = await start("connectMixed", {});
    socket.open();
    socket.hear({ type: "said", text: "Hello" });
    socket.hearData("Hello");
    assert.deepEqual([messages, errors], [[{ type: "said", text: "Hello" }, "Hello"], []]);
  },

  async "it says where it was when it comes back"() {
    const socket = await chat();
    socket.open();
    assert.deepEqual(query(), { name: "Ada" });
    socket.hear({ channel: "room:a", epoch: "e", offset: 3, recovered: true });
    for (const offset of [4, 5]) socket.hear(envelope(offset));
    const without = [{ epoch: "e", offset: "6" }, { epoch: 1, offset: 6 }, { offset: 6 }, null, 6, [6]];
    for (const message of without) socket.hear(message);
    assert.deepEqual([...connection.positions], [["room:a", "e:5"]]);
    await comeBack();
    assert.deepEqual(query(), { name: "Ada", since: "e:5" });
    newest().hear(envelope(6));
    await comeBack();
    assert.deepEqual(query(), { name: "Ada", since: "e:6" });
  },

  async "the position that is given holds until one is heard"() {
    await chat({}, { since: "e:1" });
    await comeBack();
    assert.equal(query().since, "e:1");
    newest().hear(envelope(2));
    await comeBack();
    assert.equal(query().since, "e:2");
  },

  async "a position that comes late does not count, one of a new epoch does"() {
    const socket = await chat();
    socket.hear(envelope(12));
    socket.hear({ channel: "room:a", epoch: "e", offset: 9, recovered: true });
    assert.equal(connection.positions.get("room:a"), "e:12");
    socket.hear({ channel: "room:a", epoch: "f", offset: 2, recovered: false });
    assert.equal(connection.positions.get("room:a"), "f:2");
  },

  async "an endpoint that takes no position is told none"() {
    const socket = await start("connectMixed", {});
    socket.hear(envelope(4));
    await comeBack();
    assert.deepEqual(query(), {});
  },

  async "positions are found in the texts of an endpoint without types"() {
    const socket = await start("connectFeed");
    socket.hearData("no JSON");
    socket.hear(envelope(4));
    assert.deepEqual([messages, errors], [["no JSON", JSON.stringify(envelope(4))], []]);
    await comeBack();
    assert.deepEqual(query(), { since: "e:4" });
  },

  async "of several channels no position is taken for the other's"() {
    const socket = await chat();
    socket.hear(envelope(4));
    socket.hear(envelope(7, { channel: "room:b" }));
    await comeBack();
    assert.deepEqual(query(), { name: "Ada" });
  },

  async "parameters can be made of the positions"() {
    const socket = await start("connectChat", (positions) => {
      return { room: "a", name: "Ada", since: [...positions.values()].join("+") || undefined };
    });
    assert.deepEqual(query(), { name: "Ada" });
    socket.hear(envelope(4));
    socket.hear(envelope(7, { channel: "room:b", epoch: "g" }));
    await comeBack();
    assert.deepEqual(query(), { name: "Ada", since: "e:4+g:7" });
  },

  async "a position from the function holds"() {
    const socket = await start("connectChat", () => ({ room: "a", name: "Ada", since: "e:1" }));
    socket.hear(envelope(4));
    await comeBack();
    assert.equal(query().since, "e:1");
  },

  async "a function that says nothing of the position leaves it to the client"() {
    let asked = 0;
    const socket = await start("connectChat", async () => ({ room: "a", name: `ticket ${++asked}` }));
    socket.hear(envelope(4));
    await comeBack();
    assert.deepEqual(query(), { name: "ticket 2", since: "e:4" });
  },

  async "parameters that fail are reported, and asked for again"() {
    let asked = 0;
    await start("connectChat", async () => {
      if (++asked === 1) throw new Error("no ticket");
      return { room: asked === 2 ? ".." : "a", name: "Ada" };
    });
    assert.deepEqual(errors, ["Error: no ticket"]);
    assert.deepEqual(states(), ["connecting", "waiting"]);
    await clock.pass(250);
    assert.deepEqual(errors.slice(1), ['Error: room cannot be ".."']);
    await clock.pass(500);
    assert.equal(Socket.all.length, 1);
  },

  async "after close nothing happens any more"() {
    const socket = await chat();
    socket.open();
    connection.close(4000, "enough");
    assert.deepEqual(socket.closed, [4000, "enough"]);
    socket.hear({ type: "said", text: "late" });
    socket.end(1006);
    connection.close();
    await clock.pass(60_000);
    assert.deepEqual(states(), ["connecting", "open", "closed"]);
    assert.deepEqual(connection.status, { state: "closed", code: 4000, reason: "enough", attempts: 0 });
    assert.deepEqual([messages, Socket.all.length, clock.isIdle, listeners.size], [[], 1, true, 0]);
  },

  async "it can be closed at any time"() {
    client.connectChat({ room: "a", name: "b" }).close();
    await clock.pass(0);
    assert.equal(Socket.all.length, 0);

    for (const answer of ["resolve", "reject"]) {
      let promise;
      await start("connectChat", () => new Promise((resolve, reject) => (promise = { resolve, reject })));
      connection.close();
      promise[answer]({ room: "a", name: "b" });
      await clock.pass(60_000);
      assert.deepEqual([Socket.all.length, connection.status.state], [0, "closed"]);
    }

    await chat();
    newest().end();
    connection.close();
    await clock.pass(60_000);
    assert.equal(Socket.all.length, 1);

    for (const when of ["connecting", "waiting"]) {
      reset();
      await chat({ onStatus: ({ state }) => state === when && connection.close() });
      newest()?.end();
      await clock.pass(60_000);
      assert.deepEqual([connection.status.state, Socket.all.length], ["closed", when === "waiting" ? 1 : 0], when);
    }
  },

  async "a close that the browser refuses changes nothing"() {
    const socket = await chat();
    socket.open();
    assert.throws(() => connection.close(1001), /InvalidAccessError/);
    socket.hear({ type: "said", text: "Hello" });
    assert.deepEqual([connection.status.state, messages.length], ["open", 1]);
  },

  async "a page that fails to show the status stays connected"() {
    await chat({
      onStatus({ state }) {
        throw new Error(state);
      },
    });
    newest().open();
    newest().end();
    await clock.pass(250);
    newest().open();
    assert.equal(connection.status.state, "open");
    assert.deepEqual(errors.map((text) => text.slice(7)), ["connecting", "open", "waiting", "connecting", "open"]);
  },
};

const outcome = {};
for (const [name, scenario] of Object.entries(scenarios)) {
  reset();
  outcome[name] = await scenario().then(() => null, (error) => error.stack);
}
console.log(JSON.stringify(outcome));
