// What Airflow's UI around this frame does not do for it: light or dark as Airflow is, and links that lead out of the frame.
"use strict";

const outer = (() => {
  try {
    return parent === window ? null : parent.document;
  } catch {
    return null;
  }
})();

function follow() {
  const theme = outer.documentElement.classList.contains("dark") ? "dark" : "light";
  if (document.documentElement.dataset.theme !== theme) document.documentElement.dataset.theme = theme;
}

if (outer) {
  follow();
  new MutationObserver(follow).observe(outer.documentElement, { attributes: true, attributeFilter: ["class"] });
}

// The frame may neither open a tab nor leave itself, so the page around it follows the link.
document.addEventListener("click", event => {
  const link = event.target.closest("a[data-tab], a[data-out]");
  if (!link || !outer || event.defaultPrevented) return;
  event.preventDefault();
  const copy = outer.createElement("a");
  copy.href = link.href;
  if ("tab" in link.dataset || event.ctrlKey || event.metaKey) {
    copy.target = "_blank";
    copy.rel = "noopener";
  }
  copy.hidden = true;
  outer.body.append(copy);
  copy.click();
  copy.remove();
});
