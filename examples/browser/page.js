// The page: drawing, and showing what the network makes of it.

import { best, encode, load, run, shrink } from "./network.js";

const find = (id) => document.getElementById(id);
const [draw, seen, answer, bars, status] = ["draw", "seen", "answer", "bars", "status"].map(find);
const pen = draw.getContext("2d");
const eye = seen.getContext("2d");

let strokes = [];
let asked = 0; // a newer drawing makes the one before no longer wanted
let scans = 0;

for (let digit = 0; digit < 10; digit++) {
  bars.append(Object.assign(document.createElement("span"), { textContent: digit }), document.createElement("div"));
}

function clear() {
  asked += 1;
  strokes = [];
  pen.clearRect(0, 0, draw.width, draw.height);
  show(null);
  eye.clearRect(0, 0, 8, 8);
}

function show(scores) {
  answer.textContent = scores ? best(scores) : "";
  const top = scores ? Math.max(...scores, 1e-6) : 1;
  bars.querySelectorAll("div").forEach((bar, i) => {
    bar.style.width = scores ? `${(100 * Math.max(scores[i], 0)) / top}%` : "0";
    bar.className = scores && i === best(scores) ? "best" : "";
  });
}

function dots(values, top) {
  values.forEach((value, i) => {
    eye.fillStyle = `rgba(0, 0, 0, ${value / top})`;
    eye.clearRect(i % 8, i >> 3, 1, 1);
    eye.fillRect(i % 8, i >> 3, 1, 1);
  });
}

/** Read brightnesses, in slow motion where someone watches; the final scores, or null if something newer came. */
async function read(network, pixels, slow = true) {
  const mine = ++asked;
  const begin = performance.now();
  const scores = await run(network, encode(pixels, network.settings), async (scores, spikes, t) => {
    if (mine !== asked) return false;
    show(scores);
    dots(spikes, 1);
    status.textContent = `step ${t + 1} of ${network.settings.steps}`;
    if (slow) await new Promise((resolve) => setTimeout(resolve, 15));
    return true;
  });
  if (!scores) return null;
  show(scores);
  dots(pixels, 16);
  status.textContent = `${network.settings.steps} steps in ${(performance.now() - begin).toFixed(0)} ms`;
  return scores;
}

function at(event) {
  const box = draw.getBoundingClientRect();
  return [((event.clientX - box.left) * draw.width) / box.width, ((event.clientY - box.top) * draw.height) / box.height];
}

function line(from, to) {
  Object.assign(pen, { lineWidth: 24, lineCap: "round", strokeStyle: "#222" });
  pen.beginPath();
  pen.moveTo(...from);
  pen.lineTo(...to);
  pen.stroke();
}

async function start() {
  const network = await load();
  draw.addEventListener("pointerdown", (event) => {
    draw.setPointerCapture(event.pointerId);
    if (!strokes.length) clear();
    asked += 1;
    strokes.push([at(event)]);
    line(at(event), at(event));
  });
  draw.addEventListener("pointermove", (event) => {
    if (!event.buttons || !strokes.length || !draw.hasPointerCapture(event.pointerId)) return;
    const stroke = strokes.at(-1);
    line(stroke.at(-1), at(event));
    stroke.push(at(event));
  });
  draw.addEventListener("pointerup", () => read(network, shrink(strokes)));
  find("clear").addEventListener("click", clear);
  find("scan").addEventListener("click", () => {
    clear();
    const scan = network.settings.scans[scans++ % network.settings.scans.length];
    read(network, scan.pixels);
  });
  status.textContent = "Ready.";
  return { network, read: (pixels) => read(network, pixels, false), encode, shrink };
}

// What the test drives, and what a reader may try in the console: (await window.digits).read(pixels).
window.digits = start().catch((error) => {
  status.textContent = `The network cannot be loaded: ${error.message}`;
  throw error;
});
