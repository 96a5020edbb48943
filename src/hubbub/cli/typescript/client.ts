/** How a connection has ended. */
export interface HubbubClose {
  /** The code: the server's, or 1006 where the connection was lost or refused. */
  code: number;
  reason: string;
  /** How many attempts have ended, one after the other, without a connection that held. */
  attempts: number;
}

/** How a connection is; one that is `waiting` tries again, one that is `closed` does not. */
export type HubbubStatus =
  | { state: "connecting" }
  | { state: "open" }
  | ({ state: "waiting"; delayMs: number } & HubbubClose)
  | ({ state: "closed" } & HubbubClose);

/**
 * The parameters of an endpoint, or a function that is asked for them before each attempt.
 *
 * The function is given the last position of each channel that was heard, as `epoch:offset`. It may be asynchronous, to
 * fetch a fresh token for example; what it throws is reported to `onError`, and it is asked again later.
 */
export type HubbubParameters<TParameters> =
  | TParameters
  | ((positions: ReadonlyMap<string, string>) => TParameters | Promise<TParameters>);

export interface HubbubOptions<TReceive> {
  /**
   * Where the application is, `"/"` if not given: the root of the page's own host. For an application that is mounted,
   * or that a proxy serves below a prefix, give that: `"/app"`. What is relative is resolved against the page's
   * address, and `https:` stands for `wss:`. Outside of a page it must be absolute: `"https://example.org/app"`.
   */
  url?: string | URL;
  onMessage?: (message: TReceive) => void;
  onStatus?: (status: HubbubStatus) => void;
  /**
   * Told of a message that is not JSON, of parameters that make no address, and of what `onStatus` or the function for
   * the parameters throws; `console.error` if not given.
   */
  onError?: (error: unknown) => void;
  /**
   * Whether to come back after a close. `byDefault` is true but for the codes after which the server expects nobody
   * back: 1000, 1002, 1003, 1007, 1008, 1009, 3503 and the application's own from 4000 on. Of 1008 those that are a
   * matter of time are true: `messages_per_s`, `first_message_s` and `idle_s`.
   */
  reconnect?: (close: HubbubClose, byDefault: boolean) => boolean;
  /** The delay before the second attempt; 250 if not given. It doubles with each, and up to half of it is taken off. */
  firstDelayMs?: number;
  /** The longest delay; 10 000 if not given. */
  longestDelayMs?: number;
  /** What to connect with instead of the browser's WebSocket. */
  WebSocket?: new (url: string) => HubbubSocket;
}

/** What is needed of a WebSocket. */
export interface HubbubSocket {
  binaryType: string;
  readonly readyState: number;
  onopen: any;
  onmessage: any;
  onclose: any;
  onerror: any;
  send(data: any): void;
  close(code?: number, reason?: string): void;
}

export interface HubbubConnection<TSend> {
  readonly status: HubbubStatus;
  /** The last position of each channel that was heard, as `epoch:offset`. */
  readonly positions: ReadonlyMap<string, string>;
  /** Send one message now. It is false, and nothing is sent or kept for later, while there is no connection. */
  send(message: TSend): boolean;
  /** End the connection for good: no message is delivered any more. */
  close(code?: number, reason?: string): void;
}

interface HubbubEndpoint {
  address: string;
  slashes?: string[]; // the parameters of the path that may contain them
  resumes?: boolean; // whether it takes a position in the parameter `since`
  sends: "json" | "data";
  receives: "json" | "data" | "either" | "objects"; // where texts come beside JSON, and all JSON is objects
}

const HUBBUB_FINAL = [1000, 1002, 1003, 1007, 1008, 1009, 3503];
const HUBBUB_FOR_NOW = ["messages_per_s", "first_message_s", "idle_s"]; // reasons of 1008
const HUBBUB_STEADY_MS = 5_000;
const HUBBUB_OPEN = 1;

function hubbubConnect<TSend, TReceive>(
  endpoint: HubbubEndpoint,
  parameters: HubbubParameters<object>,
  options: HubbubOptions<TReceive>,
): HubbubConnection<TSend> {
  const world: any = globalThis; // not every place has a location and the event "online"
  const { firstDelayMs = 250, longestDelayMs = 10_000 } = options;
  const Socket: new (url: string) => HubbubSocket = options.WebSocket ?? world.WebSocket;
  const root = new URL(options.url ?? "/", world.location?.href);
  const positions = new Map<string, string>();
  const isAsked = typeof parameters === "function";
  let status: HubbubStatus = { state: "connecting" };
  let socket: HubbubSocket | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined; // of the next attempt, or until a connection has held
  let attempts = 0;

  function onError(error: unknown): void {
    try {
      (options.onError ?? console.error)(error);
    } catch (worse) {
      console.error(worse);
    }
  }

  // It may close the connection: nothing is done after it that takes another state for granted.
  function show(next: HubbubStatus): void {
    status = next;
    try {
      options.onStatus?.(next);
    } catch (error) {
      onError(error); // what the page shows must not keep it from coming back
    }
  }

  async function attempt(): Promise<void> {
    clearTimeout(timer);
    show({ state: "connecting" });
    try {
      const given: Record<string, unknown> = { ...(isAsked ? await parameters(positions) : parameters) };
      if (status.state === "closed") return;
      if (endpoint.resumes && positions.size === 1 && (!isAsked || given["since"] == null)) {
        [given["since"]] = positions.values();
      } else if (endpoint.resumes && positions.size > 1 && !isAsked) {
        onError(new Error("several channels were heard: give a function that makes the parameters from the positions"));
      }
      open(new Socket(hubbubAddress(root, endpoint, given)));
    } catch (error) {
      onError(error);
      if (status.state !== "closed") lost(1006, "");
    }
  }

  function open(opened: HubbubSocket): void {
    socket = opened;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      timer = setTimeout(() => (attempts = 0), HUBBUB_STEADY_MS);
      show({ state: "open" });
    };
    socket.onmessage = (event: { data: unknown }) => receive(event.data);
    socket.onclose = (event: { code: number; reason: string }) => lost(event.code, event.reason);
    socket.onerror = () => {}; // a close follows
  }

  function receive(data: unknown): void {
    let message = data;
    if (typeof data === "string" && (endpoint.receives !== "data" || endpoint.resumes)) {
      try {
        const parsed = JSON.parse(data);
        remember(Object(parsed));
        const isMeant = endpoint.receives === "objects" ? Object(parsed) === parsed : endpoint.receives !== "data";
        if (isMeant) message = parsed;
      } catch (error) {
        if (endpoint.receives === "json") return onError(error);
      }
    }
    options.onMessage?.(message as TReceive);
  }

  // A position that is told after a join may come later than a newer publication.
  function remember({ channel, epoch, offset }: any): void {
    if (typeof channel !== "string" || typeof epoch !== "string" || typeof offset !== "number") return;
    const [known, last] = positions.get(channel)?.split(":") ?? [];
    if (known !== epoch || offset > Number(last)) positions.set(channel, `${epoch}:${offset}`);
  }

  function lost(code: number, reason: string): void {
    clearTimeout(timer);
    const byDefault = code < 4000 && (!HUBBUB_FINAL.includes(code) || HUBBUB_FOR_NOW.includes(reason));
    attempts++;
    if (!decides({ code, reason, attempts }, byDefault)) return end(code, reason);
    const doubled = firstDelayMs * 2 ** Math.min(attempts - 1, 30);
    const delayMs = Math.min(longestDelayMs, doubled) * (0.5 + Math.random() / 2);
    timer = setTimeout(attempt, delayMs);
    show({ state: "waiting", code, reason, attempts, delayMs });
  }

  function decides(close: HubbubClose, byDefault: boolean): boolean {
    try {
      return options.reconnect?.(close, byDefault) ?? byDefault;
    } catch (error) {
      onError(error);
      return byDefault;
    }
  }

  function end(code: number, reason: string): void {
    clearTimeout(timer);
    world.removeEventListener?.("online", comeBack);
    show({ state: "closed", code, reason, attempts });
  }

  function comeBack(): void {
    if (status.state === "waiting") void attempt();
  }

  if (!isAsked) hubbubAddress(root, endpoint, { ...parameters }); // or it throws at once
  world.addEventListener?.("online", comeBack);
  timer = setTimeout(attempt); // not at once: the callbacks may use what is returned here

  return {
    get status() {
      return status;
    },
    positions,
    send(message) {
      if (socket?.readyState !== HUBBUB_OPEN) return false;
      socket.send(endpoint.sends === "json" ? JSON.stringify(message) : message);
      return true;
    },
    close(code = 1000, reason = "") {
      if (status.state === "closed") return;
      socket?.close(code, reason);
      if (socket) socket.onopen = socket.onmessage = socket.onclose = null;
      end(code, reason);
    },
  };
}

/** The address of an endpoint: parameters that are not in its path go into the query, arrays as repeated ones. */
function hubbubAddress(root: URL, endpoint: HubbubEndpoint, given: Record<string, unknown>): string {
  const query = new URLSearchParams();
  const path = endpoint.address.replace(/{(\w+)}/g, (_, name: string) => {
    const value = String(given[name]);
    delete given[name];
    const parts = endpoint.slashes?.includes(name) ? value.split("/") : [value || "."];
    // No address can have these parts: they mean the directory, and the one above it.
    if (parts.some((part) => /^\.\.?$/.test(part))) throw new Error(`${name} cannot be ${JSON.stringify(value)}`);
    return parts.map(encodeURIComponent).join("/");
  });
  for (const [name, value] of Object.entries(given)) {
    for (const item of [value ?? []].flat()) query.append(name, String(item));
  }
  const address = new URL(root);
  address.protocol = root.protocol.replace("http", "ws");
  address.pathname = root.pathname.replace(/\/$/, "") + path;
  address.search = String(query);
  address.hash = "";
  return address.href;
}
