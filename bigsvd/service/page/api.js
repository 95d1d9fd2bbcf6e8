// The service by HTTP: every answer that is no success becomes a Problem.

/** An answer of the kind problem+json, or what stands for one where the server gave none. */
export class Problem extends Error {
  constructor(status, body) {
    super(body.detail || body.title || `the server answered ${status}`);
    this.status = status;
    this.code = body.code || (status ? `HTTP ${status}` : "E_UNREACHABLE");
    this.remedy = body.remedy || "";
    this.field = body.field || "";
  }
}

/** Who uses the page, as /v1/me says: what they may not do is not offered. */
export const me = { owner: "", scopes: [] };
export const maySubmit = () => me.scopes.includes("submit") || me.scopes.includes("admin");
export const mayChange = (owner) => me.scopes.includes("admin") || (me.scopes.includes("submit") && me.owner === owner);

/** Called with nothing when the server wants a login. */
export const whenLoggedOut = { call: () => {} };

async function problemOf(answer) {
  let body = {};
  try {
    body = await answer.json();
  } catch {
    // a proxy's page, which says nothing that this one could show
  }
  return new Problem(answer.status, body);
}

/** The answer to a request, whatever its body is of. */
export async function ask(method, path, { body, headers = {}, signal } = {}) {
  const sent = { method, signal, credentials: "same-origin", headers: { Accept: "application/json", ...headers } };
  if (body !== undefined) {
    sent.body = JSON.stringify(body);
    sent.headers["Content-Type"] = "application/json";
  }
  let answer;
  try {
    answer = await fetch(path, sent);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, { detail: "the server does not answer", remedy: "see that it runs; this page tries again" });
  }
  if (answer.ok) return answer;
  if (answer.status === 401 && path !== "/v1/session") whenLoggedOut.call();
  throw await problemOf(answer);
}

async function asJson(answer) {
  return answer.status === 204 ? null : answer.json();
}

export const get = async (path, options) => asJson(await ask("GET", path, options));
export const post = async (path, body, options) => asJson(await ask("POST", path, { body, ...options }));
export const remove = async (path) => asJson(await ask("DELETE", path));
export const text = async (path) => (await ask("GET", path, { headers: { Accept: "text/plain" } })).text();

/** `?a=1&b=2` of what is given. */
export function query(values) {
  const given = Object.entries(values).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  return given.length ? `?${new URLSearchParams(given)}` : "";
}

/** A key by which the server knows that a request has come again. */
export function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
}

/** Follow a job: by a stream of its events, and by asking for them again where streams do not come through.
 *  `heard.events` is called with lists of events, `heard.job` with what the job has come to be, `heard.live`
 *  with whether that comes by itself; returns how to end it. */
export function follow(path, heard) {
  let next = 0;
  let failures = 0;
  let opened = false;
  let timer = 0;
  const stop = new AbortController();
  const source = new EventSource(`${path}/events`);

  const poll = async () => {
    let pause = 2000;
    try {
      const found = await get(`${path}/events${query({ after: next })}`, { signal: stop.signal });
      next = found.next;
      if (found.events.length) heard.events(found.events);
    } catch {
      pause = 5000; // what the matter is, asking for the job itself says
    }
    if (!stop.signal.aborted) timer = setTimeout(poll, pause);
  };

  source.onopen = () => {
    opened = true;
    heard.live(true);
  };
  source.onmessage = (message) => {
    failures = 0;
    next = Number(message.lastEventId);
    heard.events([JSON.parse(message.data)]);
  };
  source.addEventListener("job", (message) => heard.job(JSON.parse(message.data)));
  source.addEventListener("end", (message) => {
    heard.job(JSON.parse(message.data));
    source.close();
  });
  source.onerror = () => {
    heard.live(false);
    failures += 1;
    if (!opened || source.readyState === EventSource.CLOSED || failures > 3) {
      source.close();
      poll();
    }
  };
  return () => {
    stop.abort();
    clearTimeout(timer);
    source.close();
  };
}
