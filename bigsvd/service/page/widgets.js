// Small parts of several pages.
import { html, useEffect, useId, useRef, useState } from "./html.js";
import { digits } from "./format.js";
import { say } from "./hooks.js";

/** A number: rounded for the eye, whole in its title and for machines. */
export function Num({ value, as = digits, ...rest }) {
  if (value === null || value === undefined) return html`<span ...${rest}>–</span>`;
  return html`<data value=${String(value)} title=${String(value)} ...${rest}>${as(value)}</data>`;
}

const STATES = {
  running: ["●", "running"],
  queued: ["◌", "waiting"],
  done: ["✓", "done"],
  failed: ["✕", "failed"],
  cancelled: ["⊘", "cancelled"],
  interrupted: ["‖", "interrupted"],
};

/** The state of a job, as a sign and a word. */
export function State({ state }) {
  const [sign, word] = STATES[state] || ["?", state];
  return html`<span class="state state-${state}"><span aria-hidden="true" class="sign">${sign}</span> <span class="word">${word}</span></span>`;
}

/** What went wrong and what to do about it. */
export function Trouble({ problem, children }) {
  if (!problem) return null;
  return html`<div class="trouble" role="alert">
    <strong><code>${problem.code}</code></strong> <span>${problem.message}</span>
    ${problem.remedy && html`<p class="remedy"><span aria-hidden="true">→ </span>${problem.remedy}</p>`}
    ${children}
  </div>`;
}

async function copy(text, near) {
  if (navigator.clipboard && window.isSecureContext) {
    await navigator.clipboard.writeText(text);
    return;
  }
  getSelection().selectAllChildren(near); // a page without TLS may not write: it selects, and the old way copies
  document.execCommand("copy");
}

/** A text to be copied, with its button. */
export function Copyable({ label, text }) {
  const place = useRef(null);
  const [told, setTold] = useState("");
  useEffect(() => {
    if (!told) return undefined;
    const timer = setTimeout(() => setTold(""), 2000);
    return () => clearTimeout(timer);
  }, [told]);
  const take = async () => {
    try {
      await copy(text, place.current);
      setTold("copied");
    } catch {
      getSelection().selectAllChildren(place.current);
      setTold("selected: copy it with the keyboard");
    }
    say(`${label} copied`);
  };
  return html`<div class="copyable">
    <div class="copyable-head">
      <span>${label}</span>
      <button type="button" class="small" onClick=${take} aria-label=${`Copy ${label}`}>${told || "copy"}</button>
    </div>
    <pre ref=${place} tabindex="0" role="group" aria-label=${label}><code>${text}</code></pre>
  </div>`;
}

/** A question before something that cannot be undone; Escape says no. `children` may ask for more. */
export function Question({ asked, title, yes, no = "No, keep it", onYes, onNo, children }) {
  const ref = useRef(null);
  const heading = useId();
  useEffect(() => {
    if (asked && !ref.current.open) ref.current.showModal();
    if (!asked && ref.current.open) ref.current.close();
  }, [asked]);
  const answer = (event) => {
    event.preventDefault();
    onYes();
  };
  const escape = (event) => {
    event.preventDefault(); // it is closed when whoever asked knows
    onNo();
  };
  return html`<dialog ref=${ref} aria-labelledby=${heading} onCancel=${escape} onClose=${() => asked && onNo()}>
    <form onSubmit=${answer}>
      <h2 id=${heading}>${title}</h2>
      ${children}
      <div class="buttons">
        <button type="button" onClick=${onNo}>${no}</button>
        <button type="submit" class="danger">${yes}</button>
      </div>
    </form>
  </dialog>`;
}

/** A field of a form with its label, hint and error. */
export function Field({ label, hint, error, children, class: kind = "" }) {
  const id = useId();
  const describedby = [hint && `${id}-hint`, error && `${id}-error`].filter(Boolean).join(" ") || undefined;
  return html`<div class="field ${kind} ${error ? "wrong" : ""}">
    <label for=${id}>${label}</label>
    ${children({ id, "aria-describedby": describedby, "aria-invalid": error ? "true" : undefined })}
    ${hint && html`<span class="hint" id="${id}-hint">${hint}</span>`}
    ${error && html`<${FieldError} id="${id}-error" problem=${error} />`}
  </div>`;
}

/** An error that belongs to one field. */
export function FieldError({ id, problem }) {
  return html`<span class="field-error" id=${id} role="alert">
    <code>${problem.code}</code> ${problem.message}${problem.remedy && html`<span class="remedy"> → ${problem.remedy}</span>`}
  </span>`;
}

/** One of a few, as buttons in a row: arrows move between them. */
export function Choice({ label, options, value, onChange, name }) {
  return html`<fieldset class="choice">
    <legend class="unseen">${label}</legend>
    ${options.map(
      ([key, words]) => html`<label key=${key} class=${key === value ? "chosen" : ""}>
        <input type="radio" name=${name} value=${key} checked=${key === value} onChange=${() => onChange(key)} />${words}
      </label>`,
    )}
  </fieldset>`;
}

/** Facts in two columns; those without a value are left out. */
export function Facts({ rows }) {
  return html`<dl class="facts">
    ${rows
      .filter(([, value]) => value !== null && value !== undefined && value !== "")
      .map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}
  </dl>`;
}
