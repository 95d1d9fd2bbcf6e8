// JOB: how far it is, what it would give now, and what can be done about it.
import { follow, get, mayChange, post, remove, text } from "./api.js";
import { bytes, counted, digits, seconds, when } from "./format.js";
import { Chart } from "./charts.js";
import { go, say, useEvery, useName } from "./hooks.js";
import { html, useEffect, useMemo, useRef, useState } from "./html.js";
import { nameOf } from "./jobs.js";
import { ENDED, eventWords, isLive, phaseWords, reasonWords, share, steps } from "./phases.js";
import { formOf, requestOf } from "./request.js";
import { Facts, Num, Question, State, Trouble } from "./widgets.js";

const EVERY = 1000;
const EVERY_BESIDE_A_STREAM = 15000;

export function JobPage({ id }) {
  const path = `/v1/jobs/${encodeURIComponent(id)}`;
  const [job, setJob] = useState(null);
  const [turn, setTurn] = useState(0); // which follows what was done here
  const [live, setLive] = useState(false);
  const problem = useEvery(
    live ? EVERY_BESIDE_A_STREAM : EVERY,
    async (signal) => {
      const found = await get(path, { signal });
      setJob(found);
      return !ENDED.includes(found.state);
    },
    [path, turn, live],
  );
  const events = useEvents(path, turn, setJob, setLive);
  useName(job && nameOf(job));
  useEffect(() => job && say(`job ${nameOf(job)} is ${job.state}`), [job?.state]);

  if (!job) return html`<h1 tabindex="-1">Job ${id}</h1><${Trouble} problem=${problem} />`;
  return html`<h1 tabindex="-1">${nameOf(job)}</h1>
    <p class="status-line"><${State} state=${job.state} /> <${Now} job=${job} /></p>
    <${Trouble} problem=${problem} />
    <${Verbs} job=${job} path=${path} done=${() => setTurn(turn + 1)} />
    ${job.error && html`<${Failure} job=${job} />`}
    <${Steps} job=${job} />
    ${job.state === "running" && html`<${PassProgress} job=${job} events=${events} />`}
    <${Quality} job=${job} events=${events} />
    <${About} job=${job} />
    <${Events} events=${events} />
    <${Log} path=${path} live=${isLive(job)} />`;
}

/** All events so far, and those that come; meanwhile the job is told of as it changes. */
function useEvents(path, turn, setJob, setLive) {
  const [events, setEvents] = useState([]);
  useEffect(() => {
    setEvents([]);
    let come = []; // a long record comes in one by one: it is shown a few times, not as often
    let timer = 0;
    const show = () => {
      timer = 0;
      const some = come;
      come = [];
      setEvents((old) => [...old, ...some]);
    };
    const hear = (found) => {
      come.push(...found);
      timer ||= setTimeout(show, 100);
    };
    const end = follow(path, { events: hear, job: setJob, live: setLive });
    return () => {
      end();
      clearTimeout(timer);
    };
  }, [path, turn]);
  return events;
}

function Now({ job }) {
  const parts = [];
  if (job.attempt > 1) parts.push(`attempt ${job.attempt}`);
  if (job.state === "running") parts.push(phaseWords(job.phase));
  const reason = reasonWords(job);
  if (reason && job.state !== "running") parts.push(reason);
  if (job.stopping && isLive(job)) parts.push("stops after this pass");
  parts.push(seconds(job.seconds));
  return html`<span>${parts.join(" · ")}</span>`;
}

function Verbs({ job, path, done }) {
  const [asked, setAsked] = useState("");
  const [drop, setDrop] = useState(false);
  const [problem, setProblem] = useState(null);
  const act = async (work, words) => {
    setAsked("");
    setProblem(null);
    try {
      await work();
      say(words);
      done();
    } catch (error) {
      setProblem(error);
    }
  };
  const verb = (name, words, body) => () => act(() => post(`${path}/${name}`, body), words);
  const forget = () => act(async () => {
    await remove(path);
    go("/jobs");
  }, "the job is forgotten");
  const mine = mayChange(job.owner);
  const resumable = ["interrupted", "failed", "cancelled"].includes(job.state);
  return html`<div class="buttons verbs">
      ${job.state === "done" && html`<a class="button main" href="/results/${job.id}">See the result</a>`}
      ${mine && isLive(job) && html`<button type="button" class="main" disabled=${job.stopping || job.state === "queued"} onClick=${verb("stop", "it stops after this pass")}>
        ${job.stopping ? "Stopping…" : "Stop here: publish after this pass"}</button>`}
      ${mine && (isLive(job) || job.state === "interrupted") && html`<button type="button" class="danger" onClick=${() => setAsked("cancel")}>Cancel…</button>`}
      ${mine && resumable && html`<button type="button" class="main" onClick=${verb("resume", "it is resumed")}>Resume</button>`}
      <a class="button" href="/?job=${job.id}">Submit one like it</a>
      ${mine && ENDED.includes(job.state) && html`<button type="button" onClick=${() => setAsked("forget")}>Forget…</button>`}
    </div>
    <${Trouble} problem=${problem} />
    <${Question} asked=${asked === "cancel"} title="Cancel ${nameOf(job)}?" yes="Cancel the job" no="Let it go on" onNo=${() => setAsked("")}
      onYes=${verb("cancel", "it is cancelled", { drop })}>
      <p>Nothing is published. ${job.phase.passes_done > 0 && html`${job.phase.passes_done} finished ${job.phase.passes_done === 1 ? "pass is" : "passes are"} kept, and Resume goes on from there, unless you drop them.`}</p>
      <label class="check"><input type="checkbox" checked=${drop} onChange=${(event) => setDrop(event.target.checked)} />drop what is finished, and free its disk space</label>
    <//>
    <${Question} asked=${asked === "forget"} title="Forget ${nameOf(job)}?" yes="Forget the job" onNo=${() => setAsked("")} onYes=${forget}>
      <p>Its events and log go; a result that it has published stays on the disk.</p>
    <//>`;
}

function Failure({ job }) {
  return html`<div class="trouble" role="alert">
    <strong><code>${job.error.code}</code></strong> <span>${job.error.message}</span>
    ${job.error.remedy && html`<p class="remedy"><span aria-hidden="true">→ </span>${job.error.remedy}</p>`}
  </div>`;
}

function Steps({ job }) {
  return html`<ol class="steps ${job.state}" aria-label="Phases">
    ${steps(job).map(({ name, is }) => html`<li key=${name} class=${is} aria-current=${is === "now" && isLive(job) ? "step" : undefined}>${name}</li>`)}
  </ol>`;
}

/** Bytes a second: of the pass that goes on as it was seen to from here, else of the last that has ended. */
function useSpeed(phase, events) {
  const first = useRef(null); // what was seen of this pass first
  const now = { pass: `${phase.name} ${phase.number}`, bytes: phase.bytes_done, at: performance.now() };
  if (first.current?.pass !== now.pass) first.current = now;
  const seconds = (now.at - first.current.at) / 1000;
  if (seconds > 1 && now.bytes > first.current.bytes) return (now.bytes - first.current.bytes) / seconds;
  const end = events.findLast((event) => event.event === "pass-end");
  const begin = end && events.findLast((event) => event.event === "pass" && event.name === end.name && event.time < end.time);
  return begin ? end.total_bytes / (end.time - begin.time) : null;
}

function PassProgress({ job, events }) {
  const done = share(job.phase);
  const speed = useSpeed(job.phase, events);
  const lanes = new Set(events.slice(events.findLastIndex((event) => event.event === "pass") + 1).filter((event) => event.event === "lane").map((event) => event.lane));
  if (done === null) return null;
  const left = speed ? (job.phase.bytes_total - job.phase.bytes_done) / speed : null;
  return html`<div class="pass-progress">
    <progress max="1" value=${done} aria-label=${`${phaseWords(job.phase)}, share read`}></progress>
    <span>${Math.floor(done * 100)} % of ${bytes(job.phase.bytes_total)}${speed ? ` · ${bytes(speed)}/s` : ""}${lanes.size ? ` · ${counted(lanes.size, "lane")} begun` : ""}${left ? ` · this pass about ${seconds(left)} more` : ""}</span>
  </div>`;
}

/** What each certificate said, by the bytes that were read until then. */
function curve(events) {
  let read = 0;
  const points = { bytes: [], error: [], residual: [] };
  for (const event of events) {
    if (event.event === "plan" && !event.resumed) {
      read = 0;
      points.bytes = [];
      points.error = [];
      points.residual = [];
    }
    if (event.event === "pass-end") read += event.total_bytes;
    if (event.event === "certificate") {
      points.bytes.push(read);
      points.error.push(event.relative_error > 0 ? event.relative_error : null);
      points.residual.push(event.max_residual > 0 ? event.max_residual : null);
    }
  }
  return points;
}

const ON_RESIDUAL = ["residual", "signal", "estimate"];

function Quality({ job, events }) {
  const points = useMemo(() => curve(events), [events]);
  const { quality } = job.phase;
  const { tol, stop } = job.request;
  const line = ON_RESIDUAL.includes(stop) && tol > 0 ? tol : null;
  const data = useMemo(
    () => [[0, ...points.bytes], [null, ...points.error], [null, ...points.residual], ...(line ? [[line, ...points.bytes.map(() => line)]] : [])],
    [points, line],
  );
  if (!quality) return job.state === "running" ? html`<p class="hint">After the first pass it will be seen here what a stop would give.</p>` : null;
  const now = job.state === "running" ? "If you stop here" : job.state === "done" ? "Published" : "After the last pass";
  return html`<section aria-labelledby="quality">
    <h2 id="quality">${now}: error <${Num} value=${quality.relative_error} class="now-error" /></h2>
    <p>after ${counted(quality.passes, "pass", "passes")}; worst residual <${Num} value=${quality.max_residual} as=${(v) => digits(v, 2)} class="now-residual" />, ${quality.converged ? "at the tolerance" : "above the tolerance"} of ${digits(tol, 3)}${line ? "" : " (which is of the error above the best)"}</p>
    ${points.bytes.length > 0 &&
    html`<${Chart} title="Error and residual against bytes read, by pass" log data=${data} xValues=${bytes} x=${{ label: "read", space: 90, range: (_, low, high) => [0, (high || 1) * 1.05] }}
      series=${[
        { label: "error", stroke: "--series-1", values: (v) => digits(v), points: true },
        { label: "residual", stroke: "--series-2", values: (v) => digits(v, 2), points: true },
        ...(line ? [{ label: "tolerance", stroke: "--ink-2", values: (v) => digits(v), dash: [6, 4], points: false }] : []),
      ]} />
      <details><summary>as a table</summary>
        <table class="small-table"><thead><tr><th scope="col">read</th><th scope="col">error</th><th scope="col">residual</th></tr></thead>
          <tbody>${points.bytes.map((read, i) => html`<tr key=${i}><td>${bytes(read)}</td><td><${Num} value=${points.error[i]} /></td><td><${Num} value=${points.residual[i]} /></td></tr>`)}</tbody></table>
      </details>`}
  </section>`;
}

function About({ job }) {
  const { source, k, out, ...asked } = requestOf(formOf(job.request));
  if (asked.memory) asked.memory = bytes(Number(asked.memory));
  return html`<details class="about" open>
    <summary>What was asked</summary>
    <${Facts} rows=${[
      ["source", html`<code>${source}</code>`],
      ["k", String(k)],
      ["output", html`<code>${out}</code>`],
      ["by", job.owner],
      ["submitted", when(job.created)],
      ["id", html`<code>${job.id}</code>`],
      ...Object.entries(job.labels),
      ...Object.entries(asked),
    ].map(([name, value]) => [name, typeof value === "boolean" || Array.isArray(value) ? String(value) : value])} />
  </details>`;
}

const SHOWN = 200;

function Events({ events }) {
  const told = events.map((event) => [event, eventWords(event)]).filter(([, words]) => words);
  return html`<details class="events" open>
    <summary>Events (${told.length})</summary>
    <ol reversed tabindex="0" aria-label="Events, newest first">
      ${told.slice(-SHOWN).reverse().map(([event, words], i) => html`<li key=${told.length - i}>
        <time>${event.time ? new Date(event.time * 1000).toLocaleTimeString("en-GB") : ""}</time> ${words}</li>`)}
    </ol>
  </details>`;
}

function Log({ path, live }) {
  const [open, setOpen] = useState(false);
  return html`<details class="log" onToggle=${(event) => setOpen(event.target.open)}>
    <summary>Log</summary>
    ${open && html`<${LogText} path=${path} live=${live} />`}
  </details>`;
}

function LogText({ path, live }) {
  const [found, setFound] = useState(null);
  const problem = useEvery(
    3000,
    async () => {
      setFound(await text(`${path}/log?tail_bytes=65536`));
      return live;
    },
    [path, live],
  );
  if (problem) return html`<${Trouble} problem=${problem} />`;
  return html`<pre tabindex="0" role="group" aria-label="Log">${found === null ? "…" : found || "(empty)"}</pre>`;
}
