const FIRST_DELAY_MS = 250;
const LONGEST_DELAY_MS = 10_000;
const STEADY_AFTER_MS = 5_000;

/**
 * A WebSocket that comes back by itself, and says in `status` how it is.
 *
 * After a loss it tries again, soon at first and then ever less often. The delay is random to a half, so that the
 * clients of a server that restarts do not all return in the same instant. It starts from the shortest delay again
 * only when a connection has held for a while: a server that accepts and closes at once is not hammered.
 */
export function reconnecting(url, { status, onMessage, onOpen = () => {}, onLost = () => {} }) {
  let socket;
  let timer;
  let attempts = 0;
  let openedAt = null;
  let connectedBefore = false;

  function show(state, text) {
    status.dataset.state = state;
    status.textContent = text;
  }

  function connect() {
    clearTimeout(timer);
    openedAt = null;
    socket = new WebSocket(url);
    socket.onmessage = (event) => onMessage(JSON.parse(event.data));
    socket.onopen = () => {
      openedAt = performance.now();
      show("connected", connectedBefore ? "Connected again" : "Connected");
      onOpen({ again: connectedBefore });
      connectedBefore = true;
    };
    socket.onclose = (event) => {
      if (openedAt !== null) {
        onLost();
        if (performance.now() - openedAt > STEADY_AFTER_MS) attempts = 0;
      }
      const delay = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** attempts++) * (0.5 + Math.random() / 2);
      show("reconnecting", event.reason ? `Reconnecting… (${event.reason})` : "Reconnecting…");
      timer = setTimeout(connect, delay);
    };
  }

  show("connecting", "Connecting…");
  connect();
  addEventListener("online", () => socket.readyState === WebSocket.CLOSED && connect());

  return {
    /** Send one message as JSON; false if there is no connection at present. */
    send(message) {
      if (socket.readyState !== WebSocket.OPEN) return false;
      socket.send(JSON.stringify(message));
      return true;
    },
  };
}

/** The ws: or wss: address of a path beside this page, wherever the application is mounted. */
export function socketURL(path, parameters) {
  const url = new URL(path, location.href);
  url.protocol = url.protocol.replace("http", "ws");
  url.search = new URLSearchParams(parameters);
  url.hash = "";
  return url;
}
