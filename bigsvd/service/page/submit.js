// SUBMIT: what is to be decomposed, what it would cost, and the commands that say the same.
import { get, newKey, post, query } from "./api.js";
import { bytes, counted, digits, last, seconds, shape } from "./format.js";
import { go, say, useSettled } from "./hooks.js";
import { html, useEffect, useMemo, useRef, useState } from "./html.js";
import { EMPTY, FOLDED, RULES, fieldOf, formOf, outOf, requestOf, wordsOf } from "./request.js";
import { Copyable, Field, FieldError, Trouble } from "./widgets.js";

export function SubmitPage() {
  const [form, setForm] = useState(EMPTY);
  const [named, setNamed] = useState(false); // whether the output was named by hand
  const [refused, setRefused] = useState(null);
  const [sending, setSending] = useState(false);
  const body = useMemo(() => requestOf(form), [form]);
  const { plan, problem, asking } = usePlan(body);
  const key = useRef(null);
  const change = (changes) => {
    key.current = null;
    setRefused(null);
    setForm((old) => withOutput({ ...old, ...changes }, named || "out" in changes));
    if ("out" in changes) setNamed(changes.out !== "");
  };
  useGiven((given, out) => {
    setForm(given);
    setNamed(out);
  });

  const shown = refused || problem;
  const at = shown ? fieldOf(shown, form) : "";
  const errorAt = (name) => (at === name ? shown : null);
  const submit = async (event) => {
    event.preventDefault();
    if (sending) return;
    setSending(true);
    key.current ||= newKey(); // the same click again, after an answer that was lost, is the same job
    try {
      const job = await post("/v1/jobs", { ...body, ...wordsOf(form) }, { headers: { "Idempotency-Key": key.current } });
      go(`/jobs/${job.id}`);
    } catch (error) {
      setRefused(error);
      setSending(false);
    }
  };

  return html`<h1 tabindex="-1">Submit</h1>
    <form class="submit" onSubmit=${submit} noValidate>
      <div class="asked">
        <${Source} form=${form} change=${change} error=${errorAt("source")} />
        <${Rank} form=${form} change=${change} error=${errorAt("k")} />
        <${Output} form=${form} change=${change} error=${errorAt("out")} />
        <${Fold} form=${form} change=${change} errorAt=${errorAt} open=${FOLDED.includes(at)} />
        ${shown && !at && html`<${Trouble} problem=${shown} />`}
        <button type="submit" class="main" disabled=${sending || !form.source.trim()}>${sending ? "Submitting…" : "Submit"}</button>
      </div>
      <div class="told">
        <${PlanBox} plan=${plan} problem=${problem} asking=${asking} empty=${!form.source.trim()} />
        ${plan && html`<${Commands} commands=${plan.commands} />`}
      </div>
    </form>`;
}

/** A form whose output is named by its source and rank, unless somebody has named it. */
function withOutput(form, named) {
  return named ? form : { ...form, out: outOf(form) };
}

/** What the address asks for: `?job=ID` begins with the request of that job, `?source=` with that source. */
function useGiven(take) {
  useEffect(() => {
    const given = new URLSearchParams(location.search);
    if (given.has("source")) take(withOutput({ ...EMPTY, source: given.get("source") }, false), false);
    if (given.has("job")) {
      get(`/v1/jobs/${encodeURIComponent(given.get("job"))}`)
        .then((job) => take(formOf(job.request), true))
        .catch((problem) => say(problem.message));
    }
  }, []);
}

/** What a request would cost, asked when nobody has typed for a moment. */
function usePlan(body) {
  const settled = useSettled(JSON.stringify(body), 350);
  const [found, setFound] = useState({ plan: null, problem: null });
  const [asking, setAsking] = useState(false);
  useEffect(() => {
    if (!JSON.parse(settled).source) {
      setFound({ plan: null, problem: null });
      return undefined;
    }
    const stop = new AbortController();
    setAsking(true);
    post("/v1/plans", JSON.parse(settled), { signal: stop.signal })
      .then((plan) => setFound({ plan, problem: null }))
      .catch((problem) => stop.signal.aborted || setFound({ plan: null, problem }))
      .finally(() => stop.signal.aborted || setAsking(false));
    return () => stop.abort();
  }, [settled]);
  return { ...found, asking };
}

const folderOf = (path) => path.slice(0, path.lastIndexOf("/") + 1).replace(/(.)\/$/, "$1");
const NOTHING = { folder: "", parent: null, roots: [], entries: [], left_out: 0 };

/** What lies in a folder; nothing where there is none. */
function useFolder(folder) {
  const [found, setFound] = useState(NOTHING);
  useEffect(() => {
    const stop = new AbortController();
    get(`/v1/sources${query({ folder })}`, { signal: stop.signal })
      .then(setFound)
      .catch(() => stop.signal.aborted || setFound(NOTHING));
    return () => stop.abort();
  }, [folder]);
  return found;
}

const isSource = (entry) => entry.kind === "array" || entry.kind === "file";

const said = (entry) => {
  if (entry.kind === "result") return `result of ${shape(entry.shape || [])}`;
  if (!entry.shape) return entry.kind;
  return `${shape(entry.shape)} ${entry.dtype || ""}${entry.bytes ? `, ${bytes(entry.bytes)}` : ""}`;
};

function Source({ form, change, error }) {
  const { entries } = useFolder(useSettled(folderOf(form.source), 200));
  const picked = entries.find((entry) => [entry.path, entry.name].includes(form.source.trim()) && entry.kind === "array");
  return html`<${Field} label="Source" error=${error}
      hint=${picked ? said(picked) : "a path below the server's folders: Zarr, HDF5, netCDF-4 or .npy"}>
      ${(attributes) => html`<input ...${attributes} type="text" name="source" list="sources" autocomplete="off"
        spellcheck=${false} autocapitalize="off" value=${form.source} onInput=${(event) => change({ source: event.target.value })} />`}
    <//>
    <datalist id="sources">
      ${entries.filter((entry) => entry.kind !== "result").map((entry) => html`<option key=${entry.path} value=${isSource(entry) ? entry.path : `${entry.path}/`}>${said(entry)}</option>`)}
    </datalist>
    <details class="browse" open>
      <summary>browse</summary>
      <${Browse} chosen=${form.source} choose=${(source) => change({ source })} />
    </details>`;
}

/** What lies below the server's folders, to be picked. */
function Browse({ chosen, choose }) {
  const [here, setHere] = useState({ folder: "", group: false });
  const found = useFolder(here.folder);
  const open = (folder, group) => () => setHere({ folder, group });
  const item = (key, act, words, hint, pressed) => html`<li key=${key}>
    <button type="button" class="entry" aria-pressed=${pressed} onClick=${act}><span>${words}</span><span class="hint">${hint}</span></button></li>`;
  return html`<p class="hint here">${found.folder}</p>
    <ul class="entries" aria-label="What lies here">
      ${!found.parent && found.roots.filter((root) => root !== found.folder).map((root) => item(root, open(root, false), root, "another of the server's folders"))}
      ${found.parent && item("..", open(found.parent, false), "..", "one up")}
      ${here.group && item(".", () => choose(found.folder), ".", "the group itself, where one of its arrays is a matrix", chosen === found.folder)}
      ${found.entries.map((entry) => {
        if (entry.kind === "result") return html`<li key=${entry.path}><a class="entry" href="/results/${entry.result}"><span>${entry.name}</span><span class="hint">${said(entry)}</span></a></li>`;
        if (isSource(entry)) return item(entry.path, () => choose(entry.path), entry.name, said(entry), chosen === entry.path);
        return item(entry.path, open(entry.path, entry.kind === "group"), `${entry.name}/`, said(entry));
      })}
      ${!found.entries.length && html`<li class="hint">nothing that could be read</li>`}
      ${found.left_out > 0 && html`<li class="hint">${found.left_out} more, which are too many to list: type the path</li>`}
    </ul>`;
}

const RULE_WORDS = {
  energy: ["share of the squared norm to keep", "0.95"],
  error: ["relative error to reach", "0.1"],
  max_bytes: ["largest size of the factors", "100MB"],
};

function Rank({ form, change, error }) {
  return html`<fieldset class="field rank ${error ? "wrong" : ""}">
    <legend>Rank</legend>
    <div class="row">
      ${RULES.map(
        ([rule, words]) => html`<label key=${rule} class="radio">
          <input type="radio" name="rule" value=${rule} checked=${form.rule === rule} onChange=${() => change({ rule })} />${words}
        </label>`,
      )}
      ${form.rule === "k" &&
      html`<input class="short" type="text" inputmode="numeric" name="k" aria-label="k, the number of triplets" aria-invalid=${error ? "true" : undefined}
        aria-describedby=${error ? "rank-error" : undefined} value=${form.k} onInput=${(event) => change({ k: event.target.value })} />`}
      ${form.rule in RULE_WORDS &&
      html`<input class="short" type="text" name=${form.rule} aria-label=${RULE_WORDS[form.rule][0]} aria-invalid=${error ? "true" : undefined}
        aria-describedby=${error ? "rank-error" : undefined} placeholder=${RULE_WORDS[form.rule][1]} value=${form[form.rule]}
        onInput=${(event) => change({ [form.rule]: event.target.value })} />`}
    </div>
    <span class="hint">${form.rule === "noise" ? "as many triplets as stand above the noise" : (RULE_WORDS[form.rule] || ["the number of singular triplets"])[0]}</span>
    ${error && html`<${FieldError} id="rank-error" problem=${error} />`}
  </fieldset>`;
}

const STATES = { "": "a path below the server's folders", free: "✓ free", exists: "something lies there already: choose another, or overwrite a result of yours (below)" };

function Output({ form, change, error }) {
  const path = useSettled(form.out.trim(), 300);
  const { folder, entries } = useFolder(folderOf(path));
  const exists = entries.some((entry) => entry.name === last(path));
  const state = !path || !folder ? "" : exists ? "exists" : "free";
  const hint = exists && form.overwrite ? "it will be overwritten" : STATES[state];
  return html`<${Field} label="Output" error=${error} hint=${hint} class=${{ free: "free", exists: "taken" }[state] || ""}>
    ${(attributes) => html`<input ...${attributes} type="text" name="out" autocomplete="off" spellcheck=${false} autocapitalize="off"
      value=${form.out} onInput=${(event) => change({ out: event.target.value })} />`}
  <//>`;
}

const SELECTS = {
  stop: [["residual", "residual of every triplet"], ["signal", "residual of those above the noise"], ["error", "error above the best"], ["estimate", "estimate of one factor"]],
  scale: [["", "not at all"], ["std", "standard deviation"], ["std-observed", "deviation of observed entries"], ["patterson", "Patterson (genotypes)"], ["binom2", "binom2 (genotypes)"]],
  missing: [["none", "are errors"], ["mean", "are the feature's mean"], ["zero", "are zero"]],
  device: [["auto", "what is there"], ["cpu", "processor"], ["gpu", "GPU"]],
};

function Fold({ form, change, errorAt, open }) {
  const text = (name, label, hint, more = {}) => html`<${Field} label=${label} hint=${hint} error=${errorAt(name)}>
    ${(attributes) => html`<input ...${attributes} type="text" name=${name} autocomplete="off" spellcheck=${false} value=${form[name]} ...${more}
      onInput=${(event) => change({ [name]: event.target.value })} />`}
  <//>`;
  const select = (name, label) => html`<${Field} label=${label} error=${errorAt(name)}>
    ${(attributes) => html`<select ...${attributes} name=${name} value=${form[name]} onChange=${(event) => change({ [name]: event.target.value })}>
      ${SELECTS[name].map(([value, words]) => html`<option key=${value} value=${value} selected=${form[name] === value}>${words}</option>`)}
    </select>`}
  <//>`;
  const check = (name, label) => html`<label class="check">
    <input type="checkbox" name=${name} checked=${form[name]} onChange=${(event) => change({ [name]: event.target.checked })} />${label}
  </label>`;
  const changed = FOLDED.filter((name) => form[name] !== EMPTY[name]);
  return html`<details class="fold" open=${open || undefined}>
    <summary>tolerance, centring, missing values, limits${changed.length > 0 && html` <span class="hint">(${changed.join(", ")})</span>`}</summary>
    <div class="grid">
      ${text("tol", "Tolerance", "0.01 is one per cent", { inputMode: "decimal" })} ${select("stop", "on the")}
      <div class="field checks"><span class="label">Features</span>${check("center", "subtract their means")}</div>
      ${select("scale", "divided by")}
      ${text("samples", "Samples are", "rows, columns, or a dimension's name")}
      ${text("functions", "Functions of entries", "such as normalize_total:1e4, log1p")}
      ${select("missing", "Missing entries")} ${text("missing_value", "and are stored as", "NaN if empty; several with commas")}
      ${text("dim", "Axis of samples", "of more axes than two")} ${text("sum", "Axis summed first", "such as ploidy")}
      ${text("rows", "Rows", "start:stop:step, or a path")} ${text("cols", "Columns", "the same")}
      ${text("memory", "Memory", "such as 4GB; the server's share if empty")} ${select("device", "Device")}
      ${text("max_passes", "Most passes", "over the data", { inputMode: "numeric" })} ${text("deadline", "Seconds", "after which no pass begins", { inputMode: "decimal" })}
      ${text("warm_start", "Start from", "factors of similar data")} ${text("seed", "Seed", "", { inputMode: "numeric" })}
      ${text("name", "Name of the job", "")} ${text("labels", "Labels", "such as project=sea, year=2026")}
      <div class="field checks"><span class="label">Output</span>${check("overwrite", "overwrite a result of mine")}</div>
    </div>
  </details>`;
}

function PlanBox({ plan, problem, asking, empty }) {
  return html`<section class="box plan" aria-labelledby="plan-title" aria-live="polite" aria-busy=${asking}>
    <h2 id="plan-title">Plan ${asking && html`<span class="hint">…</span>`}</h2>
    ${empty && html`<p class="hint">Choose a source to see what it would cost: the passes, the time, the memory and the size of the result.</p>`}
    ${!empty && problem && html`<p class="field-error"><code>${problem.code}</code> ${problem.message}</p>`}
    ${!empty && plan && html`<${PlanFacts} plan=${plan} />`}
    ${!empty && !plan && !problem && html`<p class="hint">is being made</p>`}
  </section>`;
}

function PlanFacts({ plan }) {
  const s = plan.summary;
  const ratio = s.result_bytes > 0 ? s.input_bytes / s.result_bytes : null;
  return html`<p class="plan-line">
      <b>${s.method}</b>, ${counted(s.passes, "pass", "passes")} × ${bytes(s.bytes_read / s.passes)}, about <b>${seconds(s.seconds)}</b>,
      ≤ <b>${bytes(s.memory_bytes)}</b> of memory
    </p>
    <p class="plan-line">scratch ${bytes(s.scratch_bytes)}, result <b>${bytes(s.result_bytes)}</b>${ratio && html` = ${ratio >= 1 ? `1/${digits(ratio, 3)}` : `${digits(1 / ratio, 3)} ×`} of the input`}</p>
    <details><summary>the whole plan</summary><pre tabindex="0" role="group" aria-label="The whole plan">${plan.text}</pre></details>`;
}

function Commands({ commands }) {
  return html`<section class="commands" aria-label="The same as commands">
    <h2>The same by</h2>
    ${[["cli", "CLI"], ["python", "Python"], ["curl", "curl"]]
      .filter(([name]) => commands[name])
      .map(([name, label]) => html`<${Copyable} key=${name} label=${label} text=${commands[name]} />`)}
  </section>`;
}
