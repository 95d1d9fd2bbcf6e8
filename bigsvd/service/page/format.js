// How quantities are written: as the command line writes them.

const UNITS = ["kB", "MB", "GB", "TB", "PB"];

/** `1.5 GB`, in decimal units; as `units.human_bytes`. */
export function bytes(count) {
  if (count === null || count === undefined) return "–";
  if (Math.abs(count) < 1000) return `${Math.round(count)} B`;
  let unit = -1;
  do {
    count /= 1000;
    unit += 1;
  } while (Math.abs(count) >= 1000 && unit < UNITS.length - 1);
  return `${count.toFixed(1)} ${UNITS[unit]}`;
}

/** At most so many significant digits, as Python's `%.{digits}g` rounds them. */
export function digits(value, most = 4) {
  if (value === null || value === undefined) return "–";
  if (!Number.isFinite(value)) return String(value);
  return String(Number(value.toPrecision(most)));
}

/** A whole number with its thousands apart. */
export const count = (value) => value.toLocaleString("en-US");

/** A share in per cent, rounded down so that it never seems to reach what it misses; as `rank.percent`. */
export const percent = (share) => `${(Math.floor(share * 1e4 + 1e-8) / 100).toFixed(2)} %`;

/** `41 s`, `4 min 10 s`, `2 h 5 min`, `3 d 1 h`. */
export function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value < 10) return `${digits(value, 2)} s`;
  if (value < 100) return `${Math.round(value)} s`;
  const [unit, small, large] = value < 3600 ? [1, "s", "min"] : value < 172800 ? [60, "min", "h"] : [3600, "h", "d"];
  const per = large === "d" ? 24 : 60;
  const whole = Math.round(value / unit);
  const [more, less] = [Math.floor(whole / per), whole % per];
  return less ? `${more} ${large} ${less} ${small}` : `${more} ${large}`;
}

/** The time of today, the weekday and time within a week, else the date; and nothing where there is none. */
export function when(iso, now = new Date()) {
  if (!iso) return "–";
  const at = new Date(iso);
  const time = at.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  if (at.toDateString() === now.toDateString()) return time;
  const days = (now - at) / 86400e3;
  if (days < 6) return `${at.toLocaleDateString("en-GB", { weekday: "short" })} ${time}`;
  return at.toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric" });
}

/** `2 passes`, `1 pass`. */
export const counted = (n, noun, plural = `${noun}s`) => `${digits(n, 3)} ${n === 1 ? noun : plural}`;

/** `957 × 14,079`. */
export const shape = (lengths) => lengths.map(count).join(" × ");

/** The last part of a path. */
export const last = (path) => String(path).replace(/\/+$/, "").split("/").pop();
