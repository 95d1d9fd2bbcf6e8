// The form of a request: what its fields hold, the request that they make, and which field an error is about.

export const RULES = [
  ["k", "k"],
  ["energy", "energy"],
  ["error", "error"],
  ["max_bytes", "size"],
  ["noise", "noise"],
];

/** An empty form; what the command line takes where nothing is said. */
export const EMPTY = {
  source: "", rule: "k", k: "20", energy: "0.95", error: "0.1", max_bytes: "100MB", out: "",
  tol: "0.01", stop: "residual", center: false, scale: "", samples: "rows", dim: "", sum: "", rows: "", cols: "",
  functions: "", missing: "none", missing_value: "", memory: "", max_passes: "", deadline: "", device: "auto",
  warm_start: "", seed: "0", overwrite: false, name: "", labels: "",
};

/** Those below the fold. */
export const FOLDED = [
  "tol", "stop", "center", "scale", "samples", "dim", "sum", "rows", "cols", "functions", "missing", "missing_value",
  "memory", "max_passes", "deadline", "device", "warm_start", "seed", "overwrite", "name", "labels",
];

const NUMBERS = ["tol", "max_passes", "deadline", "seed"];
const TEXTS = ["stop", "samples", "dim", "sum", "rows", "cols", "missing", "memory", "device", "warm_start"];

/** A number where the text is one; the text itself otherwise, which the server refuses by name. */
function number(text) {
  const trimmed = text.trim();
  return trimmed !== "" && Number.isFinite(Number(trimmed)) ? Number(trimmed) : trimmed;
}

const words = (text) => text.split(",").map((each) => each.trim()).filter(Boolean);

function rankOf(form) {
  if (form.rule === "k") return { k: number(form.k) };
  if (form.rule === "noise") return { k: "auto" };
  if (form.rule === "max_bytes") return { k: "auto", max_bytes: form.max_bytes.trim() };
  return { k: "auto", [form.rule]: number(form[form.rule]) };
}

/** The request that a form makes: only what differs from what is taken anyway. */
export function requestOf(form) {
  const found = { source: form.source.trim(), ...rankOf(form) };
  if (form.out.trim()) found.out = form.out.trim();
  for (const name of NUMBERS) if (form[name].trim() && form[name] !== EMPTY[name]) found[name] = number(form[name]);
  for (const name of TEXTS) if (form[name].trim() !== EMPTY[name]) found[name] = form[name].trim();
  if (form.center) found.center = true;
  if (form.overwrite) found.overwrite = true;
  if (form.scale.trim()) found.scale = form.scale === "std" ? true : form.scale.trim();
  if (form.functions.trim()) found.functions = words(form.functions);
  if (form.missing_value.trim()) found.missing_value = words(form.missing_value).map(number);
  return found;
}

/** The words beside a request: what people call the job by. */
export function wordsOf(form) {
  const found = {};
  if (form.name.trim()) found.name = form.name.trim();
  const labels = words(form.labels).map((each) => each.split("="));
  if (labels.length) found.labels = Object.fromEntries(labels.map(([key, ...rest]) => [key.trim(), rest.join("=").trim()]));
  return found;
}

/** The form of a request that was made before. */
export function formOf(request) {
  const form = { ...EMPTY };
  for (const [name, value] of Object.entries(request)) {
    if (!(name in EMPTY) || value === null || value === undefined) continue;
    form[name] = typeof EMPTY[name] === "boolean" ? Boolean(value) : String(value);
  }
  form.rule = request.k === "auto" ? ["energy", "error", "max_bytes"].find((each) => request[each]) || "noise" : "k";
  if (form.rule !== "k") form.k = EMPTY.k;
  form.scale = request.scale === true ? "std" : request.scale || "";
  return form;
}

/** What an output is called where nobody has said: by its source and the rank. */
export function outOf(form) {
  const base = form.source.trim().replace(/\/+$/, "").split("/");
  const found = base.find((each) => /\.(zarr|vcz|npy|nc|h5|hdf5|zip)$/.test(each)) || base[base.length - 1];
  if (!found) return "";
  const stem = found.replace(/(\.zarr)?\.[a-z0-9]+$/i, "") || found;
  return `${stem}.${form.rule === "k" ? `k${form.k.trim()}` : form.rule.replace("max_bytes", "size")}`;
}

const BY_CODE = {
  E_K: "k", E_RANK_ZERO: "k",
  E_SOURCE: "source", E_DTYPE: "source", E_SHAPE: "source", E_METADATA: "source", E_CHUNK_MISSING: "source",
  E_CHUNK_CORRUPT: "source", E_NONFINITE: "source", E_URL: "source", E_SOURCE_CHANGED: "source",
  E_OUTPUT_EXISTS: "out", E_OUTPUT_BUSY: "out", E_MEMORY: "memory", E_DEVICE: "device",
};

/** The field that an error is about; empty where it is about none. */
export function fieldOf(problem, form) {
  if (problem.field) return problem.field in form ? problem.field : "";
  const named = /\bbody\.([a-z_]+)/.exec(problem.message) || /\b([a-z_]+)(=| is | are )/.exec(problem.message);
  const first = named && named[1] in form ? named[1] : "";
  if (first) return RULES.some(([rule]) => rule === first) ? "k" : first;
  if (problem.code in BY_CODE) return BY_CODE[problem.code];
  if (problem.code === "E_PATH") {
    return ["out", "warm_start", "source"].find((name) => form[name] && problem.message.includes(form[name])) || "source";
  }
  return "";
}
