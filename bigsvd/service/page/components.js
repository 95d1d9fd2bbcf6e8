// The singular vectors, as lines or as images.
import { ask } from "./api.js";
import { Chart } from "./charts.js";
import { isDark, picture, rangeOf } from "./colours.js";
import { count, digits } from "./format.js";
import { useSettled, useTheme } from "./hooks.js";
import { html, useEffect, useMemo, useRef, useState } from "./html.js";
import { fromNpy } from "./tiles.js";
import { Choice, Trouble } from "./widgets.js";

const MOST_LINES = 200_000; // of one answer

export function Components({ path, info }) {
  const [axis, setAxis] = useState("cols");
  const [i, setI] = useState(1);
  const [as, setAs] = useState("lines");
  const length = info.shape[axis === "rows" ? 0 : 1];
  const most = Math.min(length, MOST_LINES);
  const [from, setFrom] = useState(0);
  const begin = Math.max(0, Math.min(from, length - most));
  const { values, problem } = useVector(path, axis, i, begin, begin + most);
  const sides = sidesOf(info, axis);
  const [width, setWidth] = useState(null);
  const chosen = width || sides[1];
  const change = (next) => {
    setAxis(next);
    setFrom(0);
    setWidth(null);
  };
  return html`<div class="components-head">
      <${Choice} label="Which vectors" name="axis" options=${[["cols", "V: of columns"], ["rows", "U: of rows"]]} value=${axis} onChange=${change} />
      <label>component <input type="number" class="short" min="1" max=${info.k} value=${i} onInput=${(event) => setI(Math.max(1, Math.min(info.k, Math.round(Number(event.target.value)) || 1)))} /> of ${info.k}</label>
      <${Choice} label="How they are shown" name="as" options=${[["lines", "line"], ["image", "image"]]} value=${as} onChange=${setAs} />
      ${as === "image" && html`<label>width <input type="number" class="short" min="1" max=${most} value=${chosen} onInput=${(event) => setWidth(Math.max(1, Math.min(most, Math.round(Number(event.target.value)) || 1)))} /></label>`}
      ${most < length && html`<label>from <input type="number" class="medium" min="0" max=${length - most} step=${most} value=${begin} onChange=${(event) => setFrom(Math.round(Number(event.target.value)) || 0)} /> the next ${count(most)} of ${count(length)}</label>`}
    </div>
    <${Trouble} problem=${problem} />
    ${values && as === "lines" && html`<${Line} values=${values} from=${begin} i=${i} axis=${axis} sigma=${info.s[i - 1]} />`}
    ${values && as === "image" && html`<${Image} values=${values} width=${chosen} i=${i} axis=${axis} />`}`;
}

/** Entries of the i-th singular vector; the one before stays until they are here. */
function useVector(path, axis, i, from, to) {
  const key = useSettled(`${path}/components?axis=${axis}&range=${from}:${to}&triplets=${i - 1}:${i}&format=npy`, 150);
  const [state, setState] = useState({ values: null, problem: null });
  useEffect(() => {
    const stop = new AbortController();
    ask("GET", key, { signal: stop.signal, headers: { Accept: "application/x-npy" } })
      .then((answer) => answer.arrayBuffer())
      .then((buffer) => setState({ values: fromNpy(buffer).values, problem: null }))
      .catch((problem) => stop.signal.aborted || setState({ values: null, problem }));
    return () => stop.abort();
  }, [key]);
  return state;
}

/** The sides of the picture that a vector is: those of the axes that were stacked, else of a square. */
function sidesOf(info, axis) {
  const length = info.shape[axis === "rows" ? 0 : 1];
  const own = (info.samples === "rows") === (axis === "cols"); // whether these are features
  const samples = info.shape[info.samples === "rows" ? 0 : 1];
  if (own && info.array_shape.length === 3) {
    const at = info.array_shape.indexOf(samples);
    const rest = info.array_shape.filter((_, each) => each !== at);
    if (rest[0] * rest[1] === length) return rest;
  }
  const side = Math.round(Math.sqrt(length));
  return side * side === length ? [side, side] : [Math.ceil(length / side), side];
}

function Line({ values, from, i, axis, sigma }) {
  const data = useMemo(() => [Array.from(values, (_, line) => from + line), Array.from(values, (v) => (Number.isNaN(v) ? null : v))], [values, from]);
  const title = `${axis === "rows" ? "U, column" : "V, column"} ${i}, by ${axis === "rows" ? "row" : "column"} of the matrix (σ = ${digits(sigma, 5)})`;
  return html`<${Chart} title=${title} data=${data} x=${{ label: axis === "rows" ? "row" : "column", range: (_, low, high) => [low, Math.max(low + 1, high)] }} xValues=${count}
    series=${[{ label: `${axis === "rows" ? "u" : "v"}${i}`, stroke: "--series-1", values: (v) => digits(v, 5), points: values.length < 60 }]} />`;
}

function Image({ values, width, i, axis }) {
  const ref = useRef(null);
  const theme = useTheme();
  const rows = Math.ceil(values.length / width);
  const [told, setTold] = useState("");
  useEffect(() => {
    const whole = new Float64Array(rows * width).fill(Number.NaN);
    whole.set(values);
    const made = picture(whole, rows, width, rangeOf(values), isDark());
    const canvas = ref.current;
    const by = Math.max(1, Math.floor(Math.min(480 / width, 480 / rows)));
    canvas.width = width * by;
    canvas.height = rows * by;
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = false;
    context.drawImage(made, 0, 0, canvas.width, canvas.height);
  }, [values, width, theme]);
  const point = (event) => {
    const box = ref.current.getBoundingClientRect();
    const row = Math.floor(((event.clientY - box.top) / box.height) * rows);
    const col = Math.floor(((event.clientX - box.left) / box.width) * width);
    const at = row * width + col;
    setTold(at >= 0 && at < values.length ? `${row}, ${col}: ${digits(values[at], 5)}` : "");
  };
  return html`<figure class="component-image">
    <canvas ref=${ref} role="img" aria-label=${`${axis === "rows" ? "U" : "V"}, column ${i}, as an image of ${rows} × ${width}`} onPointerMove=${point} onPointerLeave=${() => setTold("")}></canvas>
    <figcaption>${rows} × ${width}${told && ` · ${told}`}</figcaption>
  </figure>`;
}
