// Chunks of the reconstruction and of its exact zoom levels, read from the Zarr store by URL.
import { ask } from "./api.js";

const MOST_BYTES = 192e6; // of chunks that are kept
const AT_ONCE = 6;

/** The arrays of the store, by their names: what its consolidated metadata says. */
export async function openStore(url, signal) {
  const group = await (await ask("GET", `${url}/zarr.json`, { signal })).json();
  const found = group.consolidated_metadata.metadata;
  return { url, arrays: Object.fromEntries(Object.entries(found).filter(([, each]) => each.node_type === "array")) };
}

/** The zoom levels, finest first: `{path, shape, chunk, type, factor: [rows, columns]}` of what a cell is the mean of. */
export function levelsOf(store) {
  return Object.entries(store.arrays)
    .filter(([path]) => /^levels\/\d+$/.test(path))
    .map(([path, each]) => levelOf(path, each))
    .sort((a, b) => a.factor[0] - b.factor[0]);
}

function levelOf(path, each) {
  const factor = 2 ** Number(path.split("/")[1]);
  return { path, shape: each.shape, chunk: each.chunk_grid.configuration.chunk_shape, type: each.data_type, factor: [factor, factor] };
}

/** The chunks of one store; `changed` is called when one has come. */
export class Tiles {
  constructor(url, changed) {
    this.url = url;
    this.changed = changed;
    this.kept = new Map(); // by key, oldest use first: the values, or the error of a chunk that did not come
    this.asked = new Map(); // by key: how to end the request
    this.held = 0;
  }

  /** The values of a chunk if they are here. */
  has(level, i, j) {
    const key = `${level.path}/c/${i}/${j}`;
    const found = this.kept.get(key);
    if (found) {
      this.kept.delete(key);
      this.kept.set(key, found);
    }
    return found;
  }

  /** Ask for these chunks, the first first, and for no others any more. */
  want(chunks) {
    const keys = new Map(chunks.map(([level, i, j]) => [`${level.path}/c/${i}/${j}`, level]));
    for (const [key, stop] of this.asked) {
      if (!keys.has(key)) {
        stop.abort();
        this.asked.delete(key);
      }
    }
    for (const [key, level] of keys) {
      if (this.asked.size >= AT_ONCE) break;
      if (!this.kept.has(key) && !this.asked.has(key)) this.fetch(key, level);
    }
  }

  async fetch(key, level) {
    const stop = new AbortController();
    this.asked.set(key, stop);
    let tile;
    try {
      const answer = await ask("GET", `${this.url}/${key}`, { signal: stop.signal, headers: { Accept: "application/octet-stream" } });
      tile = { values: valuesOf(await answer.arrayBuffer(), level.type), level };
    } catch (problem) {
      if (stop.signal.aborted) return;
      tile = { problem, level };
    }
    this.asked.delete(key);
    this.kept.set(key, tile);
    this.held += tile.values?.byteLength || 0;
    for (const [old, each] of this.kept) {
      if (this.held <= MOST_BYTES || old === key) break;
      this.kept.delete(old);
      this.held -= each.values?.byteLength || 0;
    }
    this.changed();
  }

  /** Ask again for what did not come. */
  forgive() {
    for (const [key, each] of this.kept) if (each.problem) this.kept.delete(key);
  }

  close() {
    for (const stop of this.asked.values()) stop.abort();
    this.asked.clear();
  }
}

/** Little-endian numbers, as the store has them. */
export function valuesOf(buffer, type) {
  if (type === "float32") return new Float32Array(buffer);
  if (type === "float64") return new Float64Array(buffer);
  throw new Error(`${type} is no type of numbers that this page reads`);
}

/** The array of a .npy file: `{shape, values}`, float32 or float64, in C order. */
export function fromNpy(buffer) {
  const bytes = new DataView(buffer);
  const long = bytes.getUint8(6) >= 2;
  const start = long ? 12 : 10;
  const length = long ? bytes.getUint32(8, true) : bytes.getUint16(8, true);
  const header = new TextDecoder().decode(new Uint8Array(buffer, start, length));
  const type = { "<f4": "float32", "<f8": "float64" }[/'descr': '([^']+)'/.exec(header)[1]];
  const shape = /'shape': \(([^)]*)\)/.exec(header)[1].split(",").map((each) => each.trim()).filter(Boolean).map(Number);
  if (/'fortran_order': True/.test(header)) throw new Error("the array is in Fortran order");
  return { shape, values: valuesOf(buffer.slice(start + length), type) };
}
