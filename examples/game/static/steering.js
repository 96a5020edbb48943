const KEYS = {
  ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1],
  KeyA: [-1, 0], KeyD: [1, 0], KeyW: [0, -1], KeyS: [0, 1],
};
const STEPS = 8; // a finger is seldom still: its direction is rounded, and only a change is sent

/** Turn keys and a finger on `stick` into `send(x, y)`, each from -1 to 1, once for every change. */
export function steering(stick, send) {
  const pressed = new Set();
  let finger = null;
  let last = "0,0";

  function heading() {
    if (finger) return finger;
    const pushes = [...pressed].map((code) => KEYS[code]);
    const along = (axis) => Math.sign(pushes.reduce((sum, push) => sum + push[axis], 0));
    return [along(0), along(1)];
  }

  function update() {
    const now = heading();
    if (String(now) === last) return;
    last = String(now);
    send(...now);
  }

  addEventListener("keydown", (event) => {
    if (!KEYS[event.code] || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input")) return;
    event.preventDefault(); // arrow keys would scroll the page
    pressed.add(event.code);
    update();
  });
  addEventListener("keyup", (event) => {
    pressed.delete(event.code);
    update();
  });
  addEventListener("blur", () => {
    pressed.clear();
    update();
  });

  function point(event) {
    const box = stick.getBoundingClientRect();
    let x = (event.clientX - box.left) / box.width * 2 - 1;
    let y = (event.clientY - box.top) / box.height * 2 - 1;
    const length = Math.max(1, Math.hypot(x, y));
    [x, y] = [x / length, y / length];
    stick.style.setProperty("--dx", `${x * 50}px`);
    stick.style.setProperty("--dy", `${y * 50}px`);
    finger = [Math.round(x * STEPS) / STEPS, Math.round(y * STEPS) / STEPS];
    update();
  }
  function release() {
    stick.style.removeProperty("--dx");
    stick.style.removeProperty("--dy");
    finger = null;
    update();
  }
  stick.onpointerdown = (event) => {
    stick.setPointerCapture(event.pointerId);
    point(event);
  };
  stick.onpointermove = (event) => finger && point(event);
  stick.onpointerup = release;
  stick.onpointercancel = release;

  return {
    /** Say it again: a new connection does not know where this page steers. */
    again: () => send(...heading()),
  };
}
