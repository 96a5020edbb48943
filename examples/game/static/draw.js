import { hue } from "../shared/page.js";

const PLAYER_RADIUS = 17;
const GEM_RADIUS = 10;
const LEAST_NAME_PX = 12; // of the screen, where a small arena would make names too small to read
const LIGHT = { floor: "#fbfaf6", grid: "#efede4", gem: "#12958b", shine: "#6fd8cf", text: "#1d2129", rim: "#ffffff" };
const DARK = { floor: "#181b21", grid: "#22262e", gem: "#35b8ad", shine: "#b9fff7", text: "#e9e7e2", rim: "#13151a" };
const dark = matchMedia("(prefers-color-scheme: dark)");
const still = matchMedia("(prefers-reduced-motion: reduce)");

/** Paint one picture. Lengths are the arena's; the canvas scales them to its own. */
export function draw(canvas, { size, you, players, gems, now }) {
  const side = Math.round(canvas.clientWidth * devicePixelRatio);
  if (canvas.width !== side) canvas.width = canvas.height = side;
  const pen = canvas.getContext("2d");
  const colours = dark.matches ? DARK : LIGHT;
  pen.setTransform(side / size, 0, 0, side / size, 0, 0);

  drawFloor(pen, size, colours);
  gems.forEach((gem, number) => drawGem(pen, gem, colours, still.matches ? 0 : now / 600 + number));
  for (const player of players) drawPlayer(pen, player, colours, player.id === you);
  for (const player of players) drawName(pen, player, colours, size, canvas.clientWidth);
}

function drawFloor(pen, size, colours) {
  pen.fillStyle = colours.floor;
  pen.fillRect(0, 0, size, size);
  pen.fillStyle = colours.grid;
  const square = size / 12;
  for (let row = 0; row < 12; row++) {
    for (let column = row % 2; column < 12; column += 2) pen.fillRect(column * square, row * square, square, square);
  }
}

function drawGem(pen, { x, y }, colours, phase) {
  const width = GEM_RADIUS * (0.72 + 0.16 * Math.sin(phase * 2));
  const half = (sideways, colour) => {
    pen.fillStyle = colour;
    pen.beginPath();
    pen.moveTo(x, y - GEM_RADIUS);
    pen.lineTo(x + sideways * width, y);
    pen.lineTo(x, y + GEM_RADIUS);
    pen.fill();
  };
  half(-1, colours.shine);
  half(1, colours.gem);
}

function drawPlayer(pen, { x, y, name }, colours, mine) {
  const circle = (radius, colour) => {
    pen.fillStyle = colour;
    pen.beginPath();
    pen.arc(x, y, radius, 0, 2 * Math.PI);
    pen.fill();
  };
  if (mine) circle(PLAYER_RADIUS + 6, colours.text);
  circle(PLAYER_RADIUS + 3, colours.rim);
  circle(PLAYER_RADIUS, `oklch(0.52 0.13 ${hue(name)})`);
  pen.fillStyle = "#fff";
  pen.font = "600 17px system-ui, sans-serif";
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  pen.fillText([...name][0].toUpperCase(), x, y + 1);
}

function drawName(pen, { x, y, name }, colours, size, width) {
  const height = Math.max(15, LEAST_NAME_PX * size / width);
  pen.font = `600 ${height}px system-ui, sans-serif`;
  pen.textAlign = "center";
  pen.textBaseline = "alphabetic";
  const half = pen.measureText(name).width / 2 + 4;
  const across = Math.min(Math.max(x, half), size - half);
  const up = y < 50 ? y + PLAYER_RADIUS + 22 : y - PLAYER_RADIUS - 11;
  pen.lineWidth = 4;
  pen.lineJoin = "round";
  pen.strokeStyle = colours.floor;
  pen.strokeText(name, across, up);
  pen.fillStyle = colours.text;
  pen.fillText(name, across, up);
}
