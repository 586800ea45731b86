// The network: from a drawing to spikes, and through the step form, one time step after the other.

import * as ort from "./ort.wasm.bundle.min.mjs";

ort.env.wasm.numThreads = 1; // a step is small, and threads need headers that a plain server does not send

const GRID = 32; // the scans were made from bitmaps of this size, by counting ink in blocks of 4 by 4
const PEN = 5; // the width of a stroke in them, about

/** The settings that `prepare.py` wrote, and a session for the model. */
export async function load() {
  const settings = await (await fetch("network.json")).json();
  const session = await ort.InferenceSession.create(settings.model, { executionProviders: ["wasm"] });
  return { settings, session };
}

/** Strokes, lists of [x, y], as 64 brightnesses from 0 to 16: fitted into the grid, inked, and counted. */
export function shrink(strokes) {
  const points = strokes.flat();
  const pixels = new Array(64).fill(0);
  if (!points.length) return pixels;
  const [xs, ys] = [points.map((p) => p[0]), points.map((p) => p[1])];
  const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const room = GRID - PEN;
  const scale = Math.min(room / Math.max(bottom - top, 1), (room - 4) / Math.max(right - left, 1));
  const fitted = strokes.map((stroke) =>
    stroke.map(([x, y]) => [
      GRID / 2 + (x - (left + right) / 2) * scale,
      GRID / 2 + (y - (top + bottom) / 2) * scale,
    ]),
  );
  for (let row = 0; row < GRID; row++) {
    for (let column = 0; column < GRID; column++) {
      if (fitted.some((stroke) => distance(stroke, column + 0.5, row + 0.5) <= PEN / 2)) {
        pixels[(row >> 2) * 8 + (column >> 2)] += 1;
      }
    }
  }
  return pixels;
}

function distance(stroke, x, y) {
  let least = Infinity;
  for (let i = 0; i < stroke.length; i++) {
    const [ax, ay] = stroke[Math.max(i - 1, 0)];
    const [bx, by] = stroke[i];
    const length = (bx - ax) ** 2 + (by - ay) ** 2;
    const along = length ? Math.min(1, Math.max(0, ((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / length)) : 0;
    least = Math.min(least, Math.hypot(x - ax - along * (bx - ax), y - ay - along * (by - ay)));
  }
  return least;
}

/** Spike trains of pixels from 0 to 16: one Float32Array of 64 per time step. As `encode` in examples/digits/data.py. */
export function encode(pixels, { steps, top_rate, phases }) {
  const count = (i, t) => Math.floor(t * ((top_rate * pixels[i]) / 16) + phases[i]);
  return Array.from({ length: steps }, (_, t) => Float32Array.from(pixels, (_, i) => count(i, t + 1) - count(i, t)));
}

/** The mean of the readout over time. `watch(scores, spikes, t)` is called after each step; it may be async. */
export async function run({ settings, session }, spikes, watch = () => true) {
  let state = {};
  for (const [name, { shape, value }] of Object.entries(settings.states)) {
    state[name] = new ort.Tensor("float32", new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(value), shape);
  }
  const sums = new Array(settings.classes).fill(0);
  for (let t = 0; t < spikes.length; t++) {
    const x = new ort.Tensor("float32", spikes[t], [1, spikes[t].length]);
    const results = await session.run({ [settings.input]: x, ...state });
    state = Object.fromEntries(Object.keys(state).map((name) => [name, results[`${name}.next`]]));
    results[settings.output].data.forEach((value, i) => (sums[i] += value));
    if ((await watch(sums.map((s) => s / (t + 1)), spikes[t], t)) === false) return null; // no longer wanted
  }
  return sums.map((s) => s / spikes.length);
}

/** The class with the highest score. */
export function best(scores) {
  return scores.indexOf(Math.max(...scores));
}
