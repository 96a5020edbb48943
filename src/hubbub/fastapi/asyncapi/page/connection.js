/**
 * One WebSocket, and what went over it.
 *
 * It knows nothing of the page. Events: `state` when the state changes, `entry` when there is something new in the log.
 * The log is bounded twice, in entries and in size; how many were dropped is counted.
 */
const KEPT_ENTRIES = 1_000;
const KEPT_SIZE = 16_000_000;

export class Connection extends EventTarget {
  /** connecting, open, closing or closed */
  state = "closed";
  /** How it ended: `{code, reason, opened}`, once it is closed. */
  end = null;
  entries = [];
  dropped = 0;
  #request;
  #socket;
  #opened = false;
  #size = 0;
  #number = 0;
  #lastAt = performance.now();
  #lastSentAt = null;

  constructor(request) {
    super();
    this.#request = request;
  }

  /** Connect, for the first time or again. The log goes on. */
  connect() {
    const { url, subprotocols } = this.#request;
    this.end = null;
    this.#opened = false;
    this.#lastAt = performance.now();
    this.#lastSentAt = null;
    this.#socket = new WebSocket(url, subprotocols);
    this.#socket.binaryType = "arraybuffer";
    this.#socket.onopen = () => this.#onOpen();
    this.#socket.onmessage = ({ data }) =>
      this.#add("received", typeof data === "string" ? data : new Uint8Array(data));
    this.#socket.onclose = ({ code, reason }) => this.#onClose(code, reason);
    this.#enter("connecting");
  }

  /** Send text or bytes; false if the connection is not open. */
  send(data) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(data);
    this.#add("sent", data);
    return true;
  }

  close() {
    if (this.state !== "connecting" && this.state !== "open") return;
    this.#enter("closing");
    this.#socket.close(1000);
  }

  /** Forget what is in the log. */
  clear() {
    this.entries = [];
    this.dropped = 0;
    this.#size = 0;
  }

  #onOpen() {
    const { protocol } = this.#socket; // the one that the server has chosen
    this.#opened = true;
    this.#add("event", protocol ? `Connected, subprotocol ${protocol}` : "Connected");
    this.#enter("open");
  }

  #onClose(code, reason) {
    this.end = { code, reason, opened: this.#opened };
    this.#add("event", `${this.#opened ? "Closed" : "Not connected"}: ${code}${reason ? ` ${reason}` : ""}`);
    this.#enter("closed");
  }

  #enter(state) {
    this.state = state;
    this.dispatchEvent(new Event("state"));
  }

  #add(direction, data) {
    const now = performance.now();
    this.#number += 1;
    this.entries.push({
      number: this.#number,
      direction,
      data,
      time: new Date(),
      sincePrevious: now - this.#lastAt,
      sinceSent: direction !== "received" || this.#lastSentAt === null ? null : now - this.#lastSentAt,
    });
    this.#size += data.length;
    this.#lastAt = now;
    if (direction === "sent") this.#lastSentAt = now;
    while (this.entries.length > KEPT_ENTRIES || (this.#size > KEPT_SIZE && this.entries.length > 1)) {
      this.#size -= this.entries.shift().data.length;
      this.dropped += 1;
    }
    this.dispatchEvent(new Event("entry"));
  }
}
