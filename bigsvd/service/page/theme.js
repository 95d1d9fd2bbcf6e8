// Runs before the first paint: the theme that was chosen here last, or the system's.
(() => {
  let chosen = null;
  try {
    chosen = localStorage.getItem("bigsvd-theme");
  } catch {
    // storage is switched off: the system's theme it is
  }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
