// What the pages share of their behaviour.
import { useEffect, useRef, useState } from "./html.js";

/** Say something to those who do not see the page. */
export function say(words) {
  const place = document.getElementById("said");
  place.textContent = "";
  requestAnimationFrame(() => {
    place.textContent = words;
  });
}

/** Have the window called by a name, once that is known. */
export function useName(name) {
  useEffect(() => {
    if (name) document.title = `${name} · bigsvd`;
  }, [name]);
}

/** Go to another of the pages. */
export function go(path) {
  history.pushState(null, "", path);
  dispatchEvent(new PopStateEvent("popstate"));
}

/** Call `work` now and then every so many milliseconds while the page is seen; also once it is seen again.
 *  `work` gets a signal, and may return false to be called no more. */
export function useEvery(milliseconds, work, inputs) {
  const [error, setError] = useState(null);
  useEffect(() => {
    const stop = new AbortController();
    let timer = 0;
    let busy = false;
    let over = false;
    const turn = async () => {
      if (busy || over || document.hidden) return;
      clearTimeout(timer);
      busy = true;
      try {
        over = (await work(stop.signal)) === false;
        if (!stop.signal.aborted) setError(null);
      } catch (problem) {
        if (stop.signal.aborted) return;
        setError(problem);
        over = !(problem.status === 0 || problem.status >= 500 || problem.status === 429);
      } finally {
        busy = false;
      }
      if (!over && !stop.signal.aborted) timer = setTimeout(turn, milliseconds);
    };
    turn();
    document.addEventListener("visibilitychange", turn);
    return () => {
      stop.abort();
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", turn);
    };
  }, inputs);
  return error;
}

/** The value as it was when it had not changed for so many milliseconds. */
export function useSettled(value, milliseconds) {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(value), milliseconds);
    return () => clearTimeout(timer);
  }, [value, milliseconds]);
  return settled;
}

/** Whether an element has been near what is seen yet: charts are drawn then. */
export function useSeen() {
  const ref = useRef(null);
  const [seen, setSeen] = useState(false);
  useEffect(() => {
    const watch = new IntersectionObserver(
      (entries) => entries.some((each) => each.isIntersecting) && setSeen(true),
      { rootMargin: "200px" },
    );
    watch.observe(ref.current);
    return () => watch.disconnect();
  }, []);
  return [ref, seen];
}

/** A number that changes with the colours of the page. */
export function useTheme() {
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    const next = () => setTurn((n) => n + 1);
    const system = matchMedia("(prefers-color-scheme: dark)");
    system.addEventListener("change", next);
    addEventListener("bigsvd-theme", next);
    return () => {
      system.removeEventListener("change", next);
      removeEventListener("bigsvd-theme", next);
    };
  }, []);
  return turn;
}

/** What a variable of the style sheet is now, as a colour that a canvas takes. */
export function colour(name) {
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}
