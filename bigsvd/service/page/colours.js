// Colours of values: one scale for those of one sign, one with a middle for those of both.

const ONE_SIDED = ["#440154", "#472c7a", "#3b518b", "#2c718e", "#21908d", "#27ad81", "#5cc863", "#aadc32", "#fde725"];
const LIGHT_MIDDLE = ["#053061", "#2166ac", "#4393c3", "#92c5de", "#f7f7f7", "#f4a582", "#d6604d", "#b2182b", "#67001f"];
const DARK_MIDDLE = ["#9bd0ff", "#5aa9ec", "#2f78bf", "#1d4a7c", "#1b1d22", "#7c2f22", "#bf4a33", "#ec7d5a", "#ffc0a3"];
const STEPS = 256;

const parts = (hex) => [1, 3, 5].map((at) => Number.parseInt(hex.slice(at, at + 2), 16));

function table(stops) {
  const found = new Uint32Array(STEPS);
  for (let i = 0; i < STEPS; i += 1) {
    const at = (i / (STEPS - 1)) * (stops.length - 1);
    const low = Math.min(stops.length - 2, Math.floor(at));
    const [a, b] = [parts(stops[low]), parts(stops[low + 1])];
    const [r, g, blue] = a.map((each, c) => Math.round(each + (b[c] - each) * (at - low)));
    found[i] = (255 << 24) | (blue << 16) | (g << 8) | r;
  }
  return found;
}

const TABLES = { one: table(ONE_SIDED), light: table(LIGHT_MIDDLE), dark: table(DARK_MIDDLE) };

/** The range that most of these values lie in, about 0 where they are of both signs. */
export function rangeOf(values) {
  const step = Math.max(1, Math.floor(values.length / 20000));
  const some = [];
  for (let i = 0; i < values.length; i += step) if (Number.isFinite(values[i])) some.push(values[i]);
  if (!some.length) return { low: 0, high: 1, both: false };
  some.sort((a, b) => a - b);
  const at = (share) => some[Math.round(share * (some.length - 1))];
  const [low, high] = [at(0.005), at(0.995)];
  const both = low < 0 && high > 0 && Math.min(-low, high) > 0.02 * Math.max(-low, high);
  if (both) return { low: -Math.max(-low, high), high: Math.max(-low, high), both };
  return low < high ? { low, high, both } : { low: low - 0.5, high: high + 0.5, both };
}

/** The colours of a range, as 256 pixels. */
export function coloursOf(range, dark) {
  return range.both ? TABLES[dark ? "dark" : "light"] : TABLES.one;
}

/** Values as pixels; what is no number is transparent. */
export function paint(values, pixels, range, colours) {
  const scale = (STEPS - 1) / (range.high - range.low);
  for (let i = 0; i < pixels.length; i += 1) {
    const value = values[i];
    if (Number.isNaN(value)) pixels[i] = 0;
    else pixels[i] = colours[Math.max(0, Math.min(STEPS - 1, Math.round((value - range.low) * scale)))];
  }
}

/** A canvas with one pixel for each value of a (rows, columns) array. */
export function picture(values, rows, cols, range, dark) {
  const canvas = document.createElement("canvas");
  canvas.width = cols;
  canvas.height = rows;
  const context = canvas.getContext("2d");
  const image = context.createImageData(cols, rows);
  paint(values, new Uint32Array(image.data.buffer), range, coloursOf(range, dark));
  context.putImageData(image, 0, 0);
  return canvas;
}

/** Whether the page is dark now. */
export const isDark = () => document.documentElement.dataset.theme === "dark" || (document.documentElement.dataset.theme !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
