// How far a job is, in words and as a share: what the list and the page of a job both show.
import { bytes, counted } from "./format.js";

export const ENDED = ["done", "failed", "cancelled"];

/** Whether something may still happen without anybody's help. */
export const isLive = (job) => job.state === "queued" || job.state === "running";

/** The share of the pass that goes on; null where there is none. */
export function share(phase) {
  return phase.bytes_total > 0 && phase.bytes_done > 0 ? Math.min(1, phase.bytes_done / phase.bytes_total) : null;
}

/** `pass 2 of ~3`. */
export function phaseWords(phase) {
  if (phase.name === "pass") return `pass ${phase.number} of ~${Math.max(phase.of, phase.number)}`;
  return phase.doing && phase.name !== "publishing" ? `${phase.name}: ${phase.doing}` : phase.doing || phase.name;
}

/** Why a job waits or no longer goes on, with its place in line. */
export function reasonWords(job) {
  const place = job.place && !job.reason.includes("in line") ? `${ordinal(job.place)} in line` : "";
  return [job.reason, place].filter(Boolean).join(", ");
}

export function ordinal(n) {
  const kind = n % 100 >= 11 && n % 100 <= 13 ? "th" : { 1: "st", 2: "nd", 3: "rd" }[n % 10] || "th";
  return `${n}${kind}`;
}

/** The steps of a run, with which of them is now: `[{name, words, is: "past" | "now" | "next"}]`. */
export function steps(job) {
  const { phase } = job;
  const passes = Math.max(1, phase.of, phase.number, phase.passes_done);
  const at = phase.name === "pass" ? `pass ${phase.number}` : phase.name;
  const names = ["queued", "planned", "sample", ...passNames(passes, phase.number), "forming", "verifying", "publishing"];
  const now = names.indexOf(at);
  return names.map((name, i) => ({ name, is: job.state === "done" || i < now ? "past" : i === now ? "now" : "next" }));
}

const PASSES = { correct: "correcting", "two-sided": "checking", long: "forming", statistics: "means", start: "sample" };

/** What people call the pass of that name in scratch; as `events.label_of`. */
function passName(name) {
  const kind = Object.keys(PASSES).find((each) => name.startsWith(`${each}-`));
  const numbered = /-(\d{3})$/.exec(name);
  return kind ? PASSES[kind] : numbered ? `pass ${Number(numbered[1]) + 1}` : name;
}

const MOST_PASSES = 8; // that are shown one by one

/** `pass 1`, `pass 2`, …; of many those before and behind that which goes on in one. */
function passNames(passes, number) {
  if (passes <= MOST_PASSES) return Array.from({ length: passes }, (_, i) => `pass ${i + 1}`);
  const now = Math.min(Math.max(1, number), passes);
  const before = now > 1 ? [now === 2 ? "pass 1" : `passes 1–${now - 1}`] : [];
  const behind = now < passes ? [now === passes - 1 ? `pass ${passes}` : `passes ${now + 1}–${passes}`] : [];
  return [...before, `pass ${now}`, ...behind];
}

/** What an event says, in a line; empty for those that say nothing to people. */
export function eventWords(event) {
  const of = {
    plan: () => `plan: ${event.plan.method}, ${counted(event.plan.lanes.length, "lane")}${event.resumed ? `, goes on after ${event.passes_done} finished passes` : ""}`,
    waiting: () => `waits for ${event.holder}, ${ordinal(event.place)} in line`,
    "machines-differ": () => event.said,
    "chunks-absent": () => `${counted(event.count, "chunk")} that do not exist are read as the fill value`,
    "given-up": () => `finished passes of another request are deleted: ${event.differences.join("; ")}`,
    sample: () => `a sample of ${event.rows} rows is read`,
    pass: () => `${event.sample ? "sample" : passName(event.name)} begins, ${bytes(event.total_bytes)}${event.resumed_lanes ? `, ${event.resumed_lanes} lanes are there already` : ""}`,
    lane: () => "",
    "device-full": () => `lane ${event.lane} begins anew: ${event.said}`,
    "scratch-damaged": () => `computed again: ${event.said}`,
    "pass-end": () => `${event.sample ? "sample" : passName(event.name)} ends`,
    certificate: () => `after ${counted(event.passes, "pass", "passes")}: error ${event.relative_error.toPrecision(4)}, residual ${event.max_residual.toPrecision(2)}${event.converged ? ", converged" : ""}`,
    "plan-revised": () => `plan revised: ${event.method}; ${event.why}`,
    "no-gain": () => "the warm start gained nothing",
    phase: () => event.doing,
    formed: () => "the vectors are formed",
    done: () => `published at ${event.path}`,
    "attempt-end": () => `attempt ${event.attempt} ends: ${event.why}${event.error ? `, ${event.error}` : ""}`,
  }[event.event];
  return of ? of() : event.event;
}
