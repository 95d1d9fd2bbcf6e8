// Curves, drawn by uPlot when they come into sight, in the colours of the page.
import uPlot from "./vendor/uplot.js";
import { html, useEffect, useRef } from "./html.js";
import { colour, useSeen, useTheme } from "./hooks.js";

/** `series`: {label, stroke (a variable of the style sheet), values (how a number is written), dash, points}.
 *  `marks`: vertical lines {x, label, stroke}. `onPick` is called with the x of what was clicked. */
export function Chart({ title, x, series, data, marks = [], log = false, height = 220, onPick, xValues }) {
  const [box, seen] = useSeen();
  const chart = useRef(null);
  const drawn = useRef({ marks, onPick });
  drawn.current = { marks, onPick };
  const theme = useTheme();

  useEffect(() => {
    if (!seen) return undefined;
    const place = box.current;
    const made = new uPlot(options({ x, series, log, height, xValues, width: place.clientWidth, now: drawn }), data, place);
    chart.current = made;
    const watch = new ResizeObserver(() => made.setSize({ width: place.clientWidth, height }));
    watch.observe(place);
    return () => {
      watch.disconnect();
      made.destroy();
      chart.current = null;
    };
  }, [seen, theme, log, series.length]);

  useEffect(() => chart.current?.setData(data), [data]);
  useEffect(() => chart.current?.redraw(false), [JSON.stringify(marks)]);

  return html`<figure class="chart">
    <figcaption>${title}</figcaption>
    <div ref=${box} class=${onPick ? "plot pick" : "plot"} role="img" aria-label=${title}></div>
  </figure>`;
}

const SUPERSCRIPT = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };

/** 0.01, 100, 10⁻⁵. */
function onAxis(value) {
  if (value === null || value === 0) return value === 0 ? "0" : "";
  const size = Math.abs(value);
  if (size >= 1e-3 && size < 1e5) return String(Number(value.toPrecision(6)));
  const [mantissa, exponent] = value.toExponential().split("e");
  const power = `10${[...String(Number(exponent))].map((c) => SUPERSCRIPT[c]).join("")}`;
  return Number(mantissa) === 1 ? power : `${Number(Number(mantissa).toPrecision(3))}·${power}`;
}

function options({ x, series, log, height, width, xValues, now }) {
  const ink = colour("--ink-2");
  const grid = { stroke: colour("--line"), width: 1 };
  const font = "12px system-ui, sans-serif";
  const axis = { stroke: ink, grid, ticks: grid, font };
  return {
    width,
    height,
    scales: { x: { time: false, range: x.range }, y: log ? { distr: 3 } : { range: (_, low, high) => [Math.min(0, low), high] } },
    axes: [
      { ...axis, label: x.label, labelFont: font, labelSize: 18, size: 36, space: x.space || 50, values: xValues && ((_, all) => all.map(xValues)), incrs: x.incrs },
      { ...axis, ...(log ? { grid: { ...grid, filter: powers }, ticks: { ...grid, filter: powers } } : {}), size: 64, values: (_, all) => all.map(onAxis) },
    ],
    series: [
      { label: x.label, value: (_, v) => (v === null ? "–" : (xValues || String)(v)) },
      ...series.map((each) => ({
        label: each.label,
        stroke: colour(each.stroke),
        width: 2,
        dash: each.dash,
        points: { show: each.points, size: 6, fill: colour(each.stroke) },
        value: (_, v) => (v === null || v === undefined ? "–" : each.values(v)),
      })),
    ],
    cursor: { drag: { x: false, y: false }, points: { size: 8 } },
    hooks: {
      draw: [(u) => drawMarks(u, now.current.marks)],
      ready: [(u) => u.over.addEventListener("click", () => pick(u, now.current.onPick))],
    },
  };
}

/** Of the marks of a log scale the powers of ten: over many decades the others would be a carpet. */
function powers(_, splits) {
  return splits.map((value) => (Number.isInteger(Number(Math.log10(value).toFixed(9))) ? value : null));
}

function pick(u, onPick) {
  const at = u.cursor.idx;
  if (onPick && at !== null && at !== undefined) onPick(u.data[0][at]);
}

function drawMarks(u, marks) {
  const { ctx, bbox } = u;
  const ratio = devicePixelRatio;
  ctx.save();
  ctx.font = `${11 * ratio}px system-ui, sans-serif`;
  marks.forEach(({ x, label, stroke, solid }, i) => {
    const at = u.valToPos(x, "x", true);
    if (at < bbox.left - 1 || at > bbox.left + bbox.width + 1) return;
    ctx.strokeStyle = ctx.fillStyle = colour(stroke);
    ctx.lineWidth = ratio * (solid ? 2 : 1);
    ctx.setLineDash(solid ? [] : [4 * ratio, 4 * ratio]);
    ctx.beginPath();
    ctx.moveTo(at, bbox.top);
    ctx.lineTo(at, bbox.top + bbox.height);
    ctx.stroke();
    const right = at > bbox.left + bbox.width * 0.75;
    ctx.textAlign = right ? "right" : "left";
    ctx.fillText(label, at + (right ? -4 : 4) * ratio, bbox.top + (12 + 13 * (i % 5)) * ratio);
  });
  ctx.restore();
}
