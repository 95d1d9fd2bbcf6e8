// The frame of the pages: who is here, which page it is, and where the eye goes when it changes.
import { get, me, post, remove, whenLoggedOut } from "./api.js";
import { html, render, useEffect, useRef, useState } from "./html.js";
import { JobPage } from "./job.js";
import { JobsPage } from "./jobs.js";
import { say } from "./hooks.js";
import { ResultPage } from "./result.js";
import { SubmitPage } from "./submit.js";
import { Field, Trouble } from "./widgets.js";

const PAGES = [
  [/^\/$/, "Submit", SubmitPage],
  [/^\/jobs\/?$/, "Jobs", JobsPage],
  [/^\/jobs\/([^/]+)$/, "Job", JobPage],
  [/^\/results\/([^/]+)$/, "Result", ResultPage],
];

/** The title and the page of an address; another one for each `visit`, which so begins with what the address says. */
function pageAt(path, visit) {
  for (const [pattern, title, Page] of PAGES) {
    const found = pattern.exec(path);
    if (found) return [title, html`<${Page} key=${visit} id=${found[1]} />`];
  }
  return ["Not found", html`<h1 tabindex="-1">There is no such page</h1><p><a href="/">Submit</a> or <a href="/jobs">jobs</a></p>`];
}

function App() {
  const [user, setUser] = useState(undefined); // null where a login is needed
  const [trouble, setTrouble] = useState(null);
  const [path, visit] = usePath();
  const look = () =>
    get("/v1/me")
      .then((found) => {
        Object.assign(me, found);
        setUser(found);
        setTrouble(null);
      })
      .catch((problem) => (problem.status === 401 ? setUser(null) : setTrouble(problem)));
  useEffect(() => {
    whenLoggedOut.call = () => setUser(null);
    takeToken().then(look, (problem) => {
      setTrouble(problem);
      setUser(null);
    });
  }, []);
  const [title, page] = pageAt(path, visit);
  useTitle(title, visit, user);
  const leave = async () => {
    await remove("/v1/session").catch(() => {}); // a session that has ended already is as gone as asked
    setUser(null);
  };
  return html`<${Header} path=${path} user=${user} leave=${leave} />
    <main id="main" tabindex="-1">
      ${trouble && html`<${Trouble} problem=${trouble} />`}
      ${user === null && html`<${Login} done=${look} />`}
      ${user && page}
    </main>`;
}

/** A token in the address is given to the server for a cookie, and goes from the address and its history. */
async function takeToken() {
  const found = /^#token=(.+)$/.exec(location.hash);
  if (!found) return;
  history.replaceState(null, "", location.pathname + location.search);
  await post("/v1/session", { token: decodeURIComponent(found[1]) });
}

/** Where the page is, and how often it has come somewhere; links within it do not load it again. */
function usePath() {
  const [place, setPlace] = useState([location.pathname, 0]);
  useEffect(() => {
    const changed = () => setPlace(([, visit]) => [location.pathname, visit + 1]);
    const clicked = (event) => {
      const link = event.target.closest?.("a[href]");
      const plain = event.button === 0 && !event.ctrlKey && !event.metaKey && !event.shiftKey && !event.altKey;
      if (!link || !plain || link.target || link.origin !== location.origin || link.hash || link.pathname.startsWith("/v1/")) return;
      event.preventDefault();
      history.pushState(null, "", link.href);
      changed();
    };
    addEventListener("popstate", changed);
    document.addEventListener("click", clicked);
    return () => {
      removeEventListener("popstate", changed);
      document.removeEventListener("click", clicked);
    };
  }, []);
  return place;
}

/** The title of the window, and the focus on the heading when the page is another. */
function useTitle(title, visit, user) {
  const first = useRef(true);
  useEffect(() => {
    document.title = `${title} · bigsvd`;
    if (!first.current && user) {
      scrollTo(0, 0);
      document.querySelector("main h1")?.focus({ preventScroll: true });
    }
    if (user) first.current = false;
  }, [visit, Boolean(user)]);
}

const THEMES = { "": "system", light: "light", dark: "dark" };

function Theme() {
  const [theme, setTheme] = useState(document.documentElement.dataset.theme || "");
  const take = (event) => {
    const chosen = event.target.value;
    setTheme(chosen);
    if (chosen) document.documentElement.dataset.theme = chosen;
    else delete document.documentElement.dataset.theme;
    try {
      localStorage.setItem("bigsvd-theme", chosen);
    } catch {
      // without storage the choice holds until the page is left
    }
    dispatchEvent(new Event("bigsvd-theme"));
  };
  return html`<label class="theme"><span class="unseen">Colours</span>
    <select value=${theme} onChange=${take}>${Object.entries(THEMES).map(([value, words]) => html`<option key=${value} value=${value} selected=${theme === value}>${words}</option>`)}</select></label>`;
}

function Header({ path, user, leave }) {
  const link = (to, words, here) => html`<a href=${to} aria-current=${here ? "page" : undefined}>${words}</a>`;
  return html`<header>
    <a class="brand" href="/">bigsvd</a>
    ${user && html`<nav aria-label="Pages">${link("/", "Submit", path === "/")} ${link("/jobs", "Jobs", path.startsWith("/jobs") || path.startsWith("/results"))}</nav>`}
    <span class="grow"></span>
    ${user && html`<span class="user">${user.owner}</span>`}
    ${user && user.session && html`<button type="button" class="small" onClick=${leave}>sign out</button>`}
    <${Theme} />
  </header>`;
}

function Login({ done }) {
  const [token, setToken] = useState("");
  const [problem, setProblem] = useState(null);
  const enter = async (event) => {
    event.preventDefault();
    try {
      await post("/v1/session", { token: token.trim() });
      say("signed in");
      await done();
    } catch (error) {
      setProblem(error);
    }
  };
  return html`<h1 tabindex="-1">Sign in</h1>
    <form class="login box" onSubmit=${enter}>
      <${Field} label="Token" error=${problem} hint="bigsvd serve prints an address with one; others are made by bigsvd admin token">
        ${(attributes) => html`<input ...${attributes} type="password" name="token" autocomplete="current-password" value=${token} onInput=${(event) => setToken(event.target.value)} />`}
      <//>
      <button type="submit" class="main" disabled=${!token.trim()}>Sign in</button>
    </form>`;
}

const place = document.getElementById("app");
place.replaceChildren();
render(html`<${App} />`, place);
