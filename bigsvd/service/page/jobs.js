// JOBS: a page of 25, newest first, that follows what goes on.
import { get, query } from "./api.js";
import { count, digits, seconds, when } from "./format.js";
import { say, useEvery, useSettled } from "./hooks.js";
import { html, useEffect, useRef, useState } from "./html.js";
import { isLive, phaseWords, reasonWords, share } from "./phases.js";
import { Choice, Num, State, Trouble } from "./widgets.js";

const ROWS = 25;
const EVERY = 2000;
const EMPTY = { owner: "", state: "", label: "", q: "" };

export function JobsPage() {
  const [wanted, setWanted] = useState(() => ({ ...EMPTY, ...Object.fromEntries(new URLSearchParams(location.search)) }));
  const [cursors, setCursors] = useState([""]); // of the pages before this one, and of this one
  const [found, setFound] = useState(null);
  const asked = useSettled(wanted, 250);
  const cursor = cursors[cursors.length - 1];
  const problem = useEvery(
    EVERY,
    async (signal) => {
      const label = /^[^=]+=/.test(asked.label) ? asked.label : ""; // until it is KEY=VALUE
      setFound(await get(`/v1/jobs${query({ ...asked, label, limit: ROWS, cursor })}`, { signal }));
    },
    [asked, cursor],
  );
  const change = (changes) => {
    const next = { ...wanted, ...changes };
    setWanted(next);
    setCursors([""]);
    history.replaceState(null, "", `/jobs${query(next)}`);
  };
  useEffect(() => found && say(`${found.total} jobs`), [found?.total]);

  return html`<h1 tabindex="-1">Jobs</h1>
    <form class="filters" role="search" onSubmit=${(event) => event.preventDefault()}>
      <${Choice} label="Whose" name="owner" options=${[["", "all"], ["me", "mine"]]} value=${wanted.owner} onChange=${(owner) => change({ owner })} />
      <label>state
        <select value=${wanted.state} onChange=${(event) => change({ state: event.target.value })}>
          <option value="">any</option>
          ${["running", "queued", "interrupted", "failed", "done", "cancelled"].map(
            (state) => html`<option key=${state} value=${state} selected=${wanted.state === state}>${state}</option>`,
          )}
        </select>
      </label>
      <label>label <input type="text" class="label-filter" placeholder="key=value" value=${wanted.label} onInput=${(event) => change({ label: event.target.value })} /></label>
      <label>search <input type="search" value=${wanted.q} onInput=${(event) => change({ q: event.target.value })} /></label>
      ${found && html`<span class="total">${count(found.total)} ${found.total === 1 ? "job" : "jobs"}</span>`}
    </form>
    <${Trouble} problem=${problem} />
    ${found && html`<${Table} jobs=${found.jobs} />`}
    ${found && (cursors.length > 1 || found.next) &&
    html`<nav class="pages" aria-label="Pages of the list">
      <button type="button" disabled=${cursors.length === 1} onClick=${() => setCursors(cursors.slice(0, -1))}>← newer</button>
      <span>page ${cursors.length} of ${Math.max(cursors.length, Math.ceil(found.total / ROWS))}</span>
      <button type="button" disabled=${!found.next} onClick=${() => setCursors([...cursors, found.next])}>older →</button>
    </nav>`}`;
}

/** Arrows up and down go from job to job. */
function moveBetween(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const links = [...event.currentTarget.querySelectorAll("a.name")];
  const at = links.indexOf(document.activeElement);
  if (!step || at < 0) return;
  event.preventDefault();
  links[at + step]?.focus();
}

function Table({ jobs }) {
  const body = useRef(null);
  if (!jobs.length) return html`<p class="none">No job is like that. <a href="/">Submit one</a>.</p>`;
  return html`<table class="jobs" role="table">
    <caption class="unseen">Jobs, newest first; arrow keys move between them</caption>
    <thead role="rowgroup">
      <tr role="row"><th role="columnheader" scope="col">state</th><th role="columnheader" scope="col">name</th><th role="columnheader" scope="col" class="wide">by</th><th role="columnheader" scope="col" class="wide">submitted</th>
        <th role="columnheader" scope="col">phase, progress</th><th role="columnheader" scope="col" class="number">error</th></tr>
    </thead>
    <tbody role="rowgroup" ref=${body} onKeyDown=${moveBetween}>${jobs.map((job) => html`<${Row} key=${job.id} job=${job} />`)}</tbody>
  </table>`;
}

function Row({ job }) {
  const quality = job.phase.quality;
  return html`<tr role="row">
    <td role="cell"><${State} state=${job.state} /></td>
    <td role="cell" class="named"><a class="name" href="/jobs/${job.id}">${nameOf(job)}</a>
      ${Object.entries(job.labels).map(([key, value]) => html` <span key=${key} class="tag">${key}=${value}</span>`)}</td>
    <td role="cell" class="wide">${job.owner}</td>
    <td role="cell" class="wide"><time datetime=${job.created} title=${job.created}>${when(job.created)}</time></td>
    <td role="cell" class="how-far"><${Progress} job=${job} /></td>
    <td role="cell" class="number">${quality && html`<${Num} value=${quality.relative_error} as=${(v) => digits(v, 3)} />${job.state === "running" ? html`<span aria-hidden="true">→</span>` : ""}`}</td>
  </tr>`;
}

/** What people call a job: its name, else the last part of its output. */
export function nameOf(job) {
  return job.name || job.out.replace(/\/+$/, "").split("/").pop();
}

function Progress({ job }) {
  const done = share(job.phase);
  if (job.state === "running") {
    return html`<span class="progress">${job.stopping ? "stops after this pass" : phaseWords(job.phase)}
      ${done !== null && html` <progress max="1" value=${done} aria-label="of this pass"></progress> ${Math.floor(done * 100)} %`}</span>`;
  }
  if (job.state === "done") {
    const passes = job.phase.quality?.passes;
    return html`<span>${passes ? `${digits(passes, 3)} passes, ` : ""}${seconds(job.seconds)}</span>`;
  }
  if (job.state === "failed") return html`<span><code>${job.error?.code}</code> ${job.error?.message}</span>`;
  if (isLive(job) || job.state === "interrupted") return html`<span>${reasonWords(job) || phaseWords(job.phase)}</span>`;
  return html`<span class="hint">${reasonWords(job)}</span>`;
}
