// RESULT: how good it is at each k, what it looks like, and how to open it.
import { get, maySubmit, post, remove } from "./api.js";
import { Chart } from "./charts.js";
import { Components } from "./components.js";
import { bytes, count, digits, last, percent, seconds, shape, when } from "./format.js";
import { Heatmap } from "./heatmap.js";
import { go, say, useEvery, useName, useSeen, useSettled } from "./hooks.js";
import { html, useEffect, useId, useMemo, useState } from "./html.js";
import { OpenIt, Share } from "./sharing.js";
import { Facts, Num, Question, Trouble } from "./widgets.js";

export function ResultPage({ id }) {
  const path = `/v1/results/${encodeURIComponent(id)}`;
  const [found, setFound] = useState(null);
  const problem = useEvery(
    5000,
    async (signal) => {
      const [info, rank] = await Promise.all([get(path, { signal }), get(`${path}/rank`, { signal })]);
      setFound({ info, rank });
      return false; // a result does not change
    },
    [path],
  );
  const [k, setK] = useState(() => Number(new URLSearchParams(location.search).get("k")) || null);
  const settled = useSettled(k, 400);
  useEffect(() => {
    if (settled) history.replaceState(null, "", `/results/${id}?k=${settled}`);
  }, [settled]);
  useName(found && last(found.info.path));
  if (!found) return html`<h1 tabindex="-1">Result ${id}</h1><${Trouble} problem=${problem} />`;
  const { info, rank } = found;
  const chosen = Math.max(1, Math.min(k || info.k, rank.rows.length));
  return html`<h1 tabindex="-1">${last(info.path)}</h1>
    <${Certificate} info=${info} />
    <${Slider} rank=${rank} k=${chosen} choose=${setK} />
    <${Scree} rank=${rank} k=${chosen} choose=${setK} />
    <${Seen} title="The matrix">${() => html`<${Heatmap} id=${id} k=${chosen} shape=${info.full_shape} />`}<//>
    <${Seen} title="Components">${() => html`<${Components} path=${path} info=${info} />`}<//>
    <${OpenIt} id=${id} info=${info} k=${chosen} />
    ${maySubmit() && html`<${Share} path=${path} k=${chosen} known=${rank.rows.length} />`}
    <${PlanAgainstMeasured} info=${info} />
    ${maySubmit() && html`<${Verify} path=${path} />`}
    <${Details} info=${info} id=${id} path=${path} />`;
}

/** A part of the page that asks for nothing until it comes near. */
function Seen({ title, children }) {
  const [ref, seen] = useSeen();
  const heading = useId();
  return html`<section ref=${ref} aria-labelledby=${heading} class="lazy"><h2 id=${heading}>${title}</h2>${seen && children()}</section>`;
}

/** What no SVD has computed says so first, and has no bounds to show. */
function Predicted({ predicted, info }) {
  const { stage, share_seen, hidden_error, outside, notes } = predicted;
  return html`<p class="status-line">
      <span class="state state-interrupted"><span aria-hidden="true" class="sign">!</span> predicted, not computed</span>
      <span>nothing here is certified · stage ${stage} · ${percent(share_seen)} of the entries seen · error about <${Num} value=${info.certificate.relative_error} class="stored-error" />${hidden_error !== null && html` · hidden entries missed by <${Num} value=${hidden_error} />`} · ${shape(info.shape)} ${info.dtype}</span>
    </p>
    <ul class="warnings" aria-label="How it was predicted">
      <li>by ${predicted.student}, learnt from ${predicted.teacher}</li>
      ${[outside, ...notes].filter(Boolean).map((each) => html`<li key=${each}>${each}</li>`)}
    </ul>`;
}

function Certificate({ info }) {
  if (info.predicted) return html`<${Predicted} predicted=${info.predicted} info=${info} />`;
  const c = info.certificate;
  const audit = c.audit ? (c.audit.flagged ? "audit flagged" : "audit clean") : "";
  return html`<p class="status-line">
      <span class="state ${c.converged ? "state-done" : "state-interrupted"}"><span aria-hidden="true" class="sign">${c.converged ? "✓" : "!"}</span> ${c.converged ? "certified" : "short of its tolerance"}</span>
      <span>error <${Num} value=${c.relative_error} class="stored-error" /> · residual ≤ <${Num} value=${c.max_residual} as=${(v) => digits(v, 2)} />
        ${audit && ` · ${audit}`} · ${shape(info.shape)} ${info.dtype}</span>
    </p>
    ${c.warnings.length > 0 && html`<ul class="warnings" aria-label="Warnings">${c.warnings.map((each, i) => html`<li key=${i}>${each}</li>`)}</ul>`}`;
}

const share = (row) => (row.compression_ratio >= 1 ? `1/${digits(row.compression_ratio, 3)}` : `${digits(1 / row.compression_ratio, 3)} ×`);

function Slider({ rank, k, choose }) {
  const id = useId();
  const row = rank.rows[k - 1];
  const known = rank.rows.length;
  const words = `k ${k} of ${known}: error ${digits(row.relative_error)}, ${bytes(row.bytes)}, ${share(row)} of the input`;
  return html`<div class="slider box">
    <label for=${id}>k</label>
    <input id=${id} type="range" min="1" max=${known} step="1" value=${k} aria-valuetext=${words} onInput=${(event) => choose(Number(event.target.value))} />
    <span class="of"><b>${k}</b> of ${known}</span>
    <span class="at-k">error <${Num} value=${row.relative_error} class="error-at-k" /> · keeps <${Num} value=${row.energy} as=${percent} class="energy-at-k" /> · <${Num} value=${row.bytes} as=${bytes} class="bytes-at-k" /> · <${Num} value=${row.compression_ratio} as=${() => share(row)} class="ratio-at-k" /> of the input</span>
  </div>`;
}

/** Vertical lines at the k that rules choose, those of one k together, and at that which is shown. */
function marksOf(rank, k) {
  const at = new Map();
  for (const choice of rank.choices) {
    if (choice.k >= 1 && choice.k <= rank.rows.length) at.set(choice.k, [...(at.get(choice.k) || []), choice.rule]);
  }
  const rules = [...at].map(([x, names]) => ({ x, label: names.join(", "), stroke: "--mark" }));
  return [...rules, { x: k, label: "", stroke: "--accent", solid: true }];
}

function Scree({ rank, k, choose }) {
  const { rows } = rank;
  const ks = useMemo(() => rows.map((row) => row.k), [rows]);
  const sigma = useMemo(() => [ks, rows.map((row) => (row.sigma > 0 ? row.sigma : null))], [rows]);
  const energy = useMemo(() => [ks, rows.map((row) => row.energy)], [rows]);
  const marks = marksOf(rank, k);
  const x = { label: "k", range: () => [rows.length === 1 ? 0 : 1 - rows.length * 0.01, Math.max(2, rows.length * 1.01)], incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000] };
  const common = { x, marks, onPick: choose, xValues: String };
  return html`<section aria-labelledby="spectrum" class="spectrum">
    <h2 id="spectrum">Spectrum</h2>
    <div class="charts">
      <${Chart} title="Singular values, on a log scale; a click sets k" log data=${sigma} series=${[{ label: "σ", stroke: "--series-1", values: (v) => digits(v), points: rows.length < 60 }]} ...${common} />
      <${Chart} title="Cumulative energy: the share that k triplets keep" data=${energy} series=${[{ label: "energy", stroke: "--series-2", values: percent, points: rows.length < 60 }]} ...${common} />
    </div>
    <ul class="rules" aria-label="What the rules choose">
      ${rank.choices.map((choice) => {
        const chooses = choice.k >= 1 && choice.k <= rows.length;
        return html`<li key=${choice.rule}>
          ${chooses ? html`<button type="button" class="small" onClick=${() => choose(choice.k)} aria-label=${`k ${choice.k}, as ${choice.rule} chooses`}>k = ${choice.k}</button>` : html`<span class="hint">no k</span>`}
          <span><b>${choice.rule}</b>: ${choice.note}</span></li>`;
      })}
    </ul>
    <details><summary>as a table</summary><${RankTable} rows=${rows} k=${k} /></details>
  </section>`;
}

const MOST_ROWS = 1000;

function RankTable({ rows, k }) {
  return html`<div class="scroll" tabindex="0" role="group" aria-label="Rank table">
    <table class="small-table rank-table">
      <thead><tr>${["k", "σ", "energy", "rel. error", "next σ", "factors", "ratio", "residual"].map((name) => html`<th key=${name} scope="col">${name}</th>`)}</tr></thead>
      <tbody>
        ${rows.slice(0, MOST_ROWS).map((row) => html`<tr key=${row.k} class=${row.k === k ? "chosen" : ""}>
          <th scope="row">${row.k}</th><td><${Num} value=${row.sigma} /></td><td><${Num} value=${row.energy} as=${percent} /></td>
          <td><${Num} value=${row.relative_error} /></td><td><${Num} value=${row.next_sigma} /></td><td><${Num} value=${row.bytes} as=${bytes} /></td>
          <td><${Num} value=${row.compression_ratio} as=${(v) => `${digits(v, 3)}×`} /></td><td><${Num} value=${row.residual} as=${(v) => digits(v, 2)} /></td></tr>`)}
      </tbody>
    </table>
    ${rows.length > MOST_ROWS && html`<p class="hint">the first ${count(MOST_ROWS)} of ${count(rows.length)}</p>`}
  </div>`;
}

const sum = (parts) => Object.values(parts || {}).reduce((a, b) => a + b, 0);

function PlanAgainstMeasured({ info }) {
  const parts = Object.keys({ ...info.predicted_seconds, ...info.seconds_by_part });
  const measured = info.peak_memory_bytes === undefined ? null : info.peak_memory_bytes - info.baseline_memory_bytes;
  const rows = [
    ["time", seconds(sum(info.predicted_seconds)), seconds(info.seconds)],
    ...parts.map((name) => [` of which ${name}`, seconds(info.predicted_seconds?.[name]), seconds(info.seconds_by_part?.[name])]),
    ["memory beyond the libraries", bytes(info.planned_memory_bytes), measured === null ? "not measured" : bytes(measured)],
  ];
  return html`<section aria-labelledby="measured">
    <h2 id="measured">Plan against measured</h2>
    <table class="small-table">
      <thead><tr><td></td><th scope="col">plan</th><th scope="col">measured</th></tr></thead>
      <tbody>${rows.map(([name, plan, was]) => html`<tr key=${name}><th scope="row">${name}</th><td>${plan}</td><td>${was}</td></tr>`)}</tbody>
    </table>
    <p class="hint">${info.method}, ${digits(info.passes, 3)} passes, ${bytes(info.bytes_read)} read${info.cache_hit_rate > 0 ? `, ${percent(info.cache_hit_rate)} from memory` : ""}</p>
  </section>`;
}

function Verify({ path }) {
  const [found, setFound] = useState(null);
  const [problem, setProblem] = useState(null);
  const [turn, setTurn] = useState(0);
  useEvery(
    1500,
    async (signal) => {
      const now = await get(`${path}/verify`, { signal });
      setFound(now);
      return now.state === "running";
    },
    [path, turn],
  );
  const begin = async () => {
    setProblem(null);
    try {
      setFound(await post(`${path}/verify`, {}));
      setTurn(turn + 1);
    } catch (error) {
      setProblem(error);
    }
  };
  const running = found?.state === "running";
  useEffect(() => found && say(`verification: ${found.state}`), [found?.state]);
  return html`<section aria-labelledby="verify">
    <h2 id="verify">Verify</h2>
    <p>One more pass over the source recomputes what the certificate says, and digests are compared with the files.</p>
    <button type="button" disabled=${running} onClick=${begin}>${running ? "Verifying…" : "Verify"}</button>
    <${Trouble} problem=${problem || found?.error} />
    ${found?.verification && html`<${Verification} found=${found.verification} />`}
  </section>`;
}

function Verification({ found }) {
  return html`<p class="status-line"><span class="state ${found.holds ? "state-done" : "state-failed"}"><span class="sign" aria-hidden="true">${found.holds ? "✓" : "✕"}</span> ${found.holds ? (found.predicted ? "undamaged" : "all that is promised holds") : "it does not hold"}</span>
      ${found.relative_error !== null && !found.predicted && html`<span>error <${Num} value=${found.relative_error} />, residual <${Num} value=${found.max_residual} as=${(v) => digits(v, 2)} /></span>`}${found.predicted && html`<span>${found.predicted}</span>`}</p>
    ${found.findings.length > 0 && html`<ul class="warnings">${found.findings.map((each, i) => html`<li key=${i}>${each}</li>`)}</ul>`}`;
}

function Details({ info, id, path }) {
  const [asked, setAsked] = useState(false);
  const [problem, setProblem] = useState(null);
  const destroy = async () => {
    setAsked(false);
    try {
      await remove(path);
      say("the result is deleted");
      go("/jobs");
    } catch (error) {
      setProblem(error);
    }
  };
  const source = info.source || {};
  return html`<section aria-labelledby="about-result">
    <h2 id="about-result">About</h2>
    <${Facts} rows=${[
      ["source", html`<code>${source.name || source.path || source.source || "–"}</code>`],
      ["factors", html`<code>${info.path}</code>`],
      ["centred", info.centered ? "yes" : ""],
      ["scaled", info.scaled ? String(info.scaled) : ""],
      ["samples", info.samples],
      ["functions", info.functions.join(", ")],
      ["array", info.array_shape.length > 2 ? `${shape(info.array_shape)} (${info.dims.join(", ")})` : ""],
      ["features left out", info.missing_features ? count(info.missing_features) : ""],
      ["total variance", html`<${Num} value=${info.total_variance} />`],
      ["versions", Object.entries(info.versions).map(([name, version]) => `${name} ${version}`).join(", ")],
    ]} />
    <div class="buttons">${info.links.job && html`<a class="button" href="/jobs/${id}">Its job</a>`}${maySubmit() && html`<button type="button" class="danger" onClick=${() => setAsked(true)}>Delete…</button>`}</div>
    <${Trouble} problem=${problem} />
    <${Question} asked=${asked} title="Delete ${last(info.path)}?" yes="Delete the result" onNo=${() => setAsked(false)} onYes=${destroy}>
      <p>The factors and the record of their job go from the disk, and links to them end. The source stays.</p>
    <//>
  </section>`;
}
