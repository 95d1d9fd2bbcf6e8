// The heat map: pans and zooms through a matrix of any size, by the exact means that the service computes.
import { ask } from "./api.js";
import { coloursOf, isDark, picture, rangeOf } from "./colours.js";
import { count, digits } from "./format.js";
import { say, useSettled, useTheme } from "./hooks.js";
import { html, useEffect, useMemo, useRef, useState } from "./html.js";
import { Tiles, fromNpy, levelsOf, openStore } from "./tiles.js";
import { Choice, Trouble } from "./widgets.js";

const HEIGHT = 420;
const MOST_CELL_PIXELS = 40;
const MOST_CHUNKS = 40; // of a level that is shown
const MOST_CELLS = 300_000; // of the original that are asked for at a time
const SHOWN_OF_ORIGINAL = 400; // lines and columns to which a button zooms, at most

const KINDS = [["reconstruction", "reconstruction"], ["original", "original"], ["difference", "difference"]];

/** `id`: of the result. `k`: triplets that are shown. */
export function Heatmap({ id, k, shape }) {
  const [of, setOf] = useState("reconstruction");
  const [view, setView] = useState({ top: 0, left: 0, rows: shape[0], cols: shape[1] });
  const steady = useSettled(k, 200);
  const url = `/v1/results/${encodeURIComponent(id)}/zarr@${steady}`;
  return html`<div class="heat">
    <div class="heat-head">
      <${Choice} label="What is shown" name="of" options=${KINDS} value=${of} onChange=${setOf} />
      <${Window} view=${view} shape=${shape} setView=${setView} />
    </div>
    <${Surface} key=${of === "reconstruction" ? "tiles" : "region"} url=${url} id=${id} k=${steady} of=${of} shape=${shape} view=${view} setView=${setView} />
  </div>`;
}

const spanWords = (first, length) => `${Math.floor(first)}:${Math.floor(first + length)}`;

/** Rows and columns as numbers that can be typed. */
function Window({ view, shape, setView }) {
  const rows = spanWords(view.top, view.rows);
  const cols = spanWords(view.left, view.cols);
  const [typed, setTyped] = useState(null);
  const take = (event) => {
    event.preventDefault();
    const [top, bottom] = spanOf(typed?.rows ?? rows, shape[0]);
    const [left, right] = spanOf(typed?.cols ?? cols, shape[1]);
    setTyped(null);
    setView({ top, left, rows: bottom - top, cols: right - left });
  };
  const field = (name, shown) => html`<label>${name}
    <input type="text" class="span" inputmode="numeric" value=${typed?.[name] ?? shown} onInput=${(event) => setTyped({ ...typed, [name]: event.target.value })} /></label>`;
  return html`<form class="window" onSubmit=${take}>
    ${field("rows", rows)} ${field("cols", cols)}
    <button type="submit" class="small">show</button>
    <button type="button" class="small" onClick=${() => setView({ top: 0, left: 0, rows: shape[0], cols: shape[1] })}>whole</button>
  </form>`;
}

/** `2:5` within so many lines; all of them where it is none. */
function spanOf(text, length) {
  const [first, second] = text.split(":").map((each) => (each.trim() === "" ? null : Number(each)));
  const from = Math.max(0, Math.min(length - 1, first ?? 0));
  const to = Math.max(from + 1, Math.min(length, second ?? length));
  return Number.isFinite(from) && Number.isFinite(to) ? [from, to] : [0, length];
}

/** The same part of the matrix, moved and stretched so that it lies within. */
function within(view, shape, size) {
  const rows = Math.max(Math.min(shape[0], size.height / MOST_CELL_PIXELS), Math.min(view.rows, shape[0]));
  const cols = Math.max(Math.min(shape[1], size.width / MOST_CELL_PIXELS), Math.min(view.cols, shape[1]));
  return {
    rows,
    cols,
    top: Math.max(0, Math.min(view.top, shape[0] - rows)),
    left: Math.max(0, Math.min(view.left, shape[1] - cols)),
  };
}

/** The view so much larger, about a point of it given as shares. */
function zoomed(view, by, [x, y] = [0.5, 0.5]) {
  const [rows, cols] = [view.rows * by, view.cols * by];
  return { rows, cols, top: view.top + (view.rows - rows) * y, left: view.left + (view.cols - cols) * x };
}

const moved = (view, x, y) => ({ ...view, left: view.left + x * view.cols, top: view.top + y * view.rows });

function Surface({ url, id, k, of, shape, view, setView }) {
  const canvas = useRef(null);
  const [size, setSize] = useState({ width: 600, height: HEIGHT });
  const [held, setHeld] = useState(false);
  const [range, setRange] = useState(null);
  const [pointer, setPointer] = useState(null);
  const theme = useTheme();
  const shown = within(view, shape, size);
  const tiled = of === "reconstruction";
  const tiles = useTiles(tiled ? url : null, shown, size);
  const part = useRegion(tiled ? null : id, of, k, shown);
  const layers = tiled ? tiles.layers : part.layers;
  const problem = tiled ? tiles.problem : part.problem;

  useEffect(() => {
    const watch = new ResizeObserver(([entry]) => setSize({ width: Math.max(50, entry.contentRect.width), height: HEIGHT }));
    watch.observe(canvas.current.parentElement);
    return () => watch.disconnect();
  }, []);
  useEffect(() => {
    if (!held && layers.length) setRange(rangeSeen(layers, shown));
  }, [held, layers]);
  useEffect(() => {
    draw(canvas.current, size, shown, layers, range);
  }, [size, JSON.stringify(shown), layers, range, theme]);

  const move = (next) => setView(within(next, shape, size));
  const hand = useHand(canvas, shown, move, setPointer);
  const under = pointer && cellAt(layers, shown, pointer);
  const middle = cellAt(layers, shown, { x: 0.5, y: 0.5 });
  const keyed = useSettled(middle && words(middle), 600);
  const focused = useRef(false);
  useEffect(() => {
    if (focused.current && keyed) say(`in the middle: ${keyed}`);
  }, [keyed]);

  return html`<div class="surface">
    <div class="canvas-box">
      <canvas ref=${canvas} tabindex="0" role="application" aria-label=${`Heat map of the ${of}: arrows move, plus and minus zoom, 0 shows the whole`}
        aria-describedby="heat-value" onFocus=${() => { focused.current = true; }} onBlur=${() => { focused.current = false; }} ...${hand}></canvas>
      ${!tiled && part.tooMany &&
      html`<div class="over"><p>The original is read from the source, ${count(MOST_CELLS)} entries at a time at most; ${spanWords(shown.top, shown.rows)} × ${spanWords(shown.left, shown.cols)} are more.</p>
        <button type="button" onClick=${() => move(near(shown))}>Zoom in to where it can be shown</button></div>`}
      ${problem && html`<div class="over"><${Trouble} problem=${problem}>${html`<button type="button" onClick=${tiled ? tiles.again : part.again}>Try again</button>`}<//></div>`}
    </div>
    <div class="heat-foot">
      <output id="heat-value" class="value" aria-live="off">${under ? words(under) : middle ? `in the middle: ${words(middle)}` : "…"}</output>
      <span class="zoom-buttons">
        <button type="button" class="small" aria-label="Zoom in" onClick=${() => move(zoomed(shown, 0.5))}>+</button>
        <button type="button" class="small" aria-label="Zoom out" onClick=${() => move(zoomed(shown, 2))}>−</button>
      </span>
      <${Legend} range=${range} theme=${theme} />
      <label class="check"><input type="checkbox" checked=${held} onChange=${(event) => setHeld(event.target.checked)} />keep these colours</label>
      ${tiled && tiles.level && html`<span class="hint level">${tiles.level.factor.some((f) => f > 1) ? `each cell the exact mean of ${tiles.level.factor[0]} × ${tiles.level.factor[1]}` : "every entry"}${tiles.waiting ? `, ${tiles.waiting} to come` : ""}</span>`}
      ${!tiled && part.asking && html`<span class="hint">reading…</span>`}
    </div>
  </div>`;
}

/** A part of the view small enough for the original. */
function near(view) {
  const rows = Math.min(view.rows, SHOWN_OF_ORIGINAL);
  const cols = Math.min(view.cols, SHOWN_OF_ORIGINAL);
  return { rows, cols, top: view.top + (view.rows - rows) / 2, left: view.left + (view.cols - cols) / 2 };
}

/** The chunks of the level that fits the view, over those of coarser ones that are here. */
function useTiles(url, view, size) {
  const [store, setStore] = useState(null);
  const [problem, setProblem] = useState(null);
  const [turn, setTurn] = useState(0);
  const old = useRef([]);
  const levels = useMemo(() => (store ? levelsOf(store) : []), [store]);
  const tiles = useMemo(() => store && new Tiles(store.url, () => setTurn((n) => n + 1)), [store]);
  useEffect(() => () => tiles?.close(), [tiles]);
  useEffect(() => {
    if (!url) return undefined;
    const stop = new AbortController();
    openStore(url, stop.signal)
      .then((found) => { setStore(found); setProblem(null); })
      .catch((error) => stop.signal.aborted || setProblem(error));
    return () => stop.abort();
  }, [url]);

  const level = levels.length ? levelFor(levels, view, size) : null;
  const wanted = level ? chunksOf(level, view) : [];
  const key = level ? `${level.path} ${wanted.map(([, i, j]) => `${i}/${j}`).join()}` : "";
  const layers = useMemo(() => {
    if (!tiles) return old.current;
    const coarser = levels.slice(levels.indexOf(level)).reverse();
    const found = coarser.flatMap((each) => chunksOf(each, view).slice(0, 4 * MOST_CHUNKS)).map(([each, i, j]) => [tiles.has(each, i, j), i, j]);
    const here = found.filter(([tile]) => tile?.values).map(([tile, i, j]) => layerOf(tile, i, j));
    if (here.length) old.current = here; // of another k, until the first chunk of this one is here
    return here.length ? here : old.current;
  }, [tiles, turn, key]);
  useEffect(() => tiles?.want(wanted), [tiles, turn, key]);
  const failed = tiles && wanted.map(([each, i, j]) => tiles.has(each, i, j)).find((tile) => tile?.problem);
  const waiting = tiles ? wanted.filter(([each, i, j]) => !tiles.has(each, i, j)).length : 0;
  const again = () => {
    tiles?.forgive();
    setTurn((n) => n + 1);
  };
  return { layers, level, waiting, problem: problem || failed?.problem, again };
}

/** The finest level of which neither too many cells nor too many chunks are seen; else the coarsest. */
function levelFor(levels, view, size) {
  const pixels = size.width * size.height * Math.min(4, devicePixelRatio ** 2);
  return levels.find((each) => {
    const cells = (view.rows / each.factor[0]) * (view.cols / each.factor[1]);
    return cells <= 2 * pixels && chunksOf(each, view, MOST_CHUNKS + 1).length <= MOST_CHUNKS;
  }) || levels[levels.length - 1];
}

/** The chunks `[level, i, j]` of a level that a view touches, those in its middle first; `most` ends early. */
function chunksOf(level, view, most = 4096) {
  const [fy, fx] = level.factor;
  const [cy, cx] = level.chunk;
  const grid = level.shape.map((length, axis) => Math.ceil(length / level.chunk[axis]));
  const rows = [Math.floor(view.top / fy / cy), Math.min(grid[0] - 1, Math.floor((view.top + view.rows) / fy / cy))];
  const cols = [Math.floor(view.left / fx / cx), Math.min(grid[1] - 1, Math.floor((view.left + view.cols) / fx / cx))];
  const found = [];
  for (let i = rows[0]; i <= rows[1] && found.length < most; i += 1) {
    for (let j = cols[0]; j <= cols[1] && found.length < most; j += 1) found.push([level, i, j]);
  }
  const away = ([, i, j]) => Math.hypot(i - (rows[0] + rows[1]) / 2, j - (cols[0] + cols[1]) / 2);
  return found.sort((a, b) => away(a) - away(b));
}

/** What is drawn of a chunk: its values, and which lines of the matrix each is of. */
function layerOf(tile, i, j) {
  const { level } = tile;
  const [cy, cx] = level.chunk;
  return {
    tile,
    values: tile.values,
    stride: cx,
    rows: Math.min(cy, level.shape[0] - i * cy),
    cols: Math.min(cx, level.shape[1] - j * cx),
    top: i * cy * level.factor[0],
    left: j * cx * level.factor[1],
    factor: level.factor,
  };
}

/** A region of the original, or of what the reconstruction misses of it. */
function useRegion(id, of, k, view) {
  const top = Math.floor(view.top);
  const left = Math.floor(view.left);
  const bottom = Math.ceil(view.top + view.rows);
  const right = Math.ceil(view.left + view.cols);
  const tooMany = (bottom - top) * (right - left) > MOST_CELLS;
  const key = useSettled(id && !tooMany ? JSON.stringify([top, bottom, left, right, of, k]) : "", 250);
  const [found, setFound] = useState({ layers: [], problem: null, asking: false });
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    if (!key || !id) return undefined;
    const [a, b, c, d, what, rank] = JSON.parse(key);
    const stop = new AbortController();
    setFound((old) => ({ ...old, asking: true, problem: null }));
    const query = new URLSearchParams({ rows: `${a}:${b}`, cols: `${c}:${d}`, k: rank, of: what, format: "npy" });
    ask("GET", `/v1/results/${encodeURIComponent(id)}/region?${query}`, { signal: stop.signal, headers: { Accept: "application/octet-stream" } })
      .then((answer) => answer.arrayBuffer())
      .then((buffer) => {
        const { shape: [rows, cols], values } = fromNpy(buffer);
        const layer = { tile: {}, values, stride: cols, rows, cols, top: a, left: c, factor: [1, 1] };
        setFound({ layers: [layer], of: what, k: rank, problem: null, asking: false });
      })
      .catch((problem) => stop.signal.aborted || setFound({ layers: [], problem, asking: false }));
    return () => stop.abort();
  }, [key, id, turn]);
  const same = found.of === of && (of === "original" || found.k === k); // else they are of something else
  return { ...found, layers: tooMany || !same ? [] : found.layers, tooMany, again: () => setTurn(turn + 1) };
}

/** The finest of the layers' values that are seen, for their colours. */
function rangeSeen(layers, view) {
  const finest = Math.min(...layers.map((each) => each.factor[0] * each.factor[1]));
  const some = [];
  for (const each of layers.filter((layer) => layer.factor[0] * layer.factor[1] === finest)) {
    const step = Math.max(1, Math.floor(Math.sqrt((each.rows * each.cols * layers.length) / 40000)));
    for (let i = 0; i < each.rows; i += step) {
      const row = each.top + i * each.factor[0];
      if (row + each.factor[0] < view.top || row > view.top + view.rows) continue;
      for (let j = i % step; j < each.cols; j += step) {
        const col = each.left + j * each.factor[1];
        if (col + each.factor[1] >= view.left && col <= view.left + view.cols) some.push(each.values[i * each.stride + j]);
      }
    }
  }
  return rangeOf(some);
}

function draw(canvas, size, view, layers, range) {
  const ratio = devicePixelRatio;
  canvas.width = Math.round(size.width * ratio);
  canvas.height = Math.round(size.height * ratio);
  canvas.style.height = `${size.height}px`;
  const context = canvas.getContext("2d");
  if (!range) return;
  const dark = isDark();
  const [sy, sx] = [canvas.height / view.rows, canvas.width / view.cols];
  for (const each of layers) {
    const made = pictureOf(each, range, dark);
    const [cy, cx] = [each.factor[0] * sy, each.factor[1] * sx];
    context.imageSmoothingEnabled = Math.min(cy, cx) < 1;
    context.imageSmoothingQuality = "high";
    context.drawImage(made, 0, 0, each.cols, each.rows, (each.left - view.left) * sx, (each.top - view.top) * sy, each.cols * cx, each.rows * cy);
  }
}

/** The picture of a layer, made again where its colours have changed. */
function pictureOf(layer, range, dark) {
  const { tile } = layer;
  if (tile.range !== range || tile.dark !== dark || !tile.made) {
    const height = layer.values.length / layer.stride;
    tile.made = picture(layer.values, height, layer.stride, range, dark);
    tile.range = range;
    tile.dark = dark;
  }
  return tile.made;
}

/** The finest value at a point of the view given as shares. */
function cellAt(layers, view, { x, y }) {
  const row = view.top + y * view.rows;
  const col = view.left + x * view.cols;
  let best = null;
  for (const each of layers) {
    const i = Math.floor((row - each.top) / each.factor[0]);
    const j = Math.floor((col - each.left) / each.factor[1]);
    if (i < 0 || j < 0 || i >= each.rows || j >= each.cols) continue;
    if (best && best.factor[0] * best.factor[1] < each.factor[0] * each.factor[1]) continue;
    best = { factor: each.factor, row: each.top + i * each.factor[0], col: each.left + j * each.factor[1], value: each.values[i * each.stride + j] };
  }
  return best;
}

function words({ factor: [fy, fx], row, col, value }) {
  const number = Number.isNaN(value) ? "no value" : digits(value, 6);
  if (fy === 1 && fx === 1) return `row ${row}, column ${col}: ${number}`;
  return `mean of rows ${row}:${row + fy}, columns ${col}:${col + fx}: ${number}`;
}

const KEYS = {
  ArrowLeft: (view) => moved(view, -0.1, 0),
  ArrowRight: (view) => moved(view, 0.1, 0),
  ArrowUp: (view) => moved(view, 0, -0.1),
  ArrowDown: (view) => moved(view, 0, 0.1),
  PageUp: (view) => moved(view, 0, -0.9),
  PageDown: (view) => moved(view, 0, 0.9),
  "+": (view) => zoomed(view, 0.7),
  "=": (view) => zoomed(view, 0.7),
  "-": (view) => zoomed(view, 1 / 0.7),
  0: (view) => ({ ...view, top: 0, left: 0, rows: Infinity, cols: Infinity }),
};

/** What mouse, fingers and keys do to the view. */
function useHand(canvas, view, move, point) {
  const fingers = useRef(new Map());
  const latest = useRef({ view, move });
  latest.current = { view, move };
  const at = (event) => {
    const box = canvas.current.getBoundingClientRect();
    return { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height };
  };
  useEffect(() => {
    const wheel = (event) => {
      if (!event.ctrlKey && document.activeElement !== canvas.current) return; // the page scrolls, until one has clicked
      event.preventDefault();
      const { x, y } = at(event);
      latest.current.move(zoomed(latest.current.view, Math.exp(Math.sign(event.deltaY) * Math.min(60, Math.abs(event.deltaY)) * 0.004), [x, y]));
    };
    const node = canvas.current;
    node.addEventListener("wheel", wheel, { passive: false });
    return () => node.removeEventListener("wheel", wheel);
  }, []);
  return {
    onPointerDown: (event) => {
      canvas.current.setPointerCapture(event.pointerId);
      fingers.current.set(event.pointerId, at(event));
    },
    onPointerMove: (event) => {
      const here = at(event);
      point(here);
      const before = fingers.current.get(event.pointerId);
      if (!before) return;
      if (fingers.current.size === 2) move(pinched(view, fingers.current, event.pointerId, here));
      else move(moved(view, before.x - here.x, before.y - here.y));
      fingers.current.set(event.pointerId, here);
    },
    onPointerUp: (event) => fingers.current.delete(event.pointerId),
    onPointerCancel: (event) => fingers.current.delete(event.pointerId),
    onPointerLeave: () => point(null),
    onDblClick: (event) => move(zoomed(view, 0.5, [at(event).x, at(event).y])),
    onKeyDown: (event) => {
      const step = event.ctrlKey || event.metaKey || event.altKey ? null : KEYS[event.key];
      if (!step) return;
      event.preventDefault();
      move(step(view));
    },
  };
}

/** The view after one of two fingers has moved. */
function pinched(view, fingers, id, here) {
  const [other] = [...fingers].filter(([each]) => each !== id).map(([, place]) => place);
  const before = fingers.get(id);
  const apart = (a) => Math.max(0.02, Math.hypot(a.x - other.x, a.y - other.y));
  const larger = zoomed(view, apart(before) / apart(here), [(here.x + other.x) / 2, (here.y + other.y) / 2]);
  return moved(larger, (before.x - here.x) / 2, (before.y - here.y) / 2);
}

function Legend({ range, theme }) {
  const ref = useRef(null);
  useEffect(() => {
    if (!range) return;
    const context = ref.current.getContext("2d");
    const image = context.createImageData(256, 1);
    new Uint32Array(image.data.buffer).set(coloursOf(range, isDark()));
    context.putImageData(image, 0, 0);
  }, [range, theme]);
  if (!range) return null;
  return html`<span class="legend"><span>${digits(range.low, 3)}</span><canvas ref=${ref} width="256" height="1" aria-hidden="true"></canvas><span>${digits(range.high, 3)}</span></span>`;
}
