// Keeps the page current: checks every few seconds whether it has changed, and replaces the parts that have.
"use strict";
(() => {
  const INTERVAL = 3000;
  const parts = ["live", "live-list"];
  const pause = document.getElementById("pause");
  const announce = document.getElementById("announce");
  let tag = null, paused = false, timer = 0;

  const selects = (part) => {
    const selection = document.getSelection();
    return selection && !selection.isCollapsed && part.contains(selection.anchorNode);
  };

  const replace = (part, next) => {
    if (part.innerHTML === next.innerHTML || selects(part)) return;
    const focused = document.activeElement;
    const within = part.contains(focused);
    const place = within ? [...part.querySelectorAll("a, button, [tabindex]")].indexOf(focused) : -1;
    const region = part.querySelector(".scroll");
    const [left, top] = region ? [region.scrollLeft, region.scrollTop] : [0, 0];
    part.replaceChildren(...next.childNodes);
    const current = part.querySelector(".scroll");
    if (current) { current.scrollLeft = left; current.scrollTop = top; }
    if (!within) return;
    const target = (focused.id && document.getElementById(focused.id))
      || part.querySelectorAll("a, button, [tabindex]")[place];
    if (target) target.focus({ preventScroll: true });
  };

  const show = (text) => {
    const next = new DOMParser().parseFromString(text, "text/html");
    for (const id of parts) {
      const part = document.getElementById(id), found = next.getElementById(id);
      if (!part || !found) continue;
      if (found.dataset.summary !== part.dataset.summary) {
        announce.textContent = found.dataset.summary;
        part.dataset.summary = found.dataset.summary;
      }
      replace(part, found);
    }
    for (const total of document.querySelectorAll(".bar .number")) {
      const found = next.getElementById(total.id);
      if (found) total.textContent = found.textContent;
    }
  };

  const poll = async () => {
    try {
      const headers = tag ? { "if-none-match": tag } : {};
      const response = await fetch(location.href, { headers, cache: "no-store", credentials: "same-origin" });
      if (response.status === 401) return location.reload();
      if (response.status === 200) {
        tag = response.headers.get("etag");
        show(await response.text());
      }
      document.body.classList.toggle("lost", response.status >= 500);
    } catch {
      document.body.classList.add("lost");
    }
    schedule();
  };

  const schedule = () => {
    clearTimeout(timer);
    if (!paused && !document.hidden) timer = setTimeout(poll, INTERVAL);
  };

  if (document.getElementById("live") && pause) {
    pause.hidden = false;
    pause.addEventListener("click", () => {
      paused = !paused;
      pause.setAttribute("aria-pressed", String(paused));
      pause.textContent = paused ? "Resume" : "Pause";
      schedule();
    });
    document.addEventListener("visibilitychange", () => { if (!document.hidden && !paused) poll(); });
    schedule();
  }

  document.addEventListener("keydown", (event) => {
    const search = document.getElementById("q");
    const typing = event.target.closest("input, select, textarea");
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || typing || !search) return;
    event.preventDefault();
    search.focus();
    search.select();
  });
})();
