// Keeps the page current: fetches it anew and replaces the sections that changed. Everything can be read without this.
"use strict";
(() => {
  const EVERY = 5000;
  const PATIENCE = 10000;
  const sections = ["notes", "incidents", "matrix", "acts", "history"];
  const last = new Map();
  const byId = (id) => document.getElementById(id);
  const remember = (root) => sections.forEach((id) => last.set(id, root.getElementById(id)?.outerHTML));
  remember(document);

  // What moves by itself must be stoppable by whoever reads it.
  let paused = false;
  const button = document.createElement("button");
  button.type = "button";
  button.id = "pause";
  const state = document.createElement("span");
  state.id = "live-state";
  const show = (text, lost) => {
    if (state.textContent !== text) state.textContent = text;
    state.classList.toggle("lost", lost);
    button.textContent = paused ? "Update again" : "Stop updating";
    button.setAttribute("aria-pressed", String(paused));
  };
  byId("control").append(button, " ", state);
  button.addEventListener("click", () => {
    paused = !paused;
    show(paused ? "Stopped" : "Updates every 5 s", false);
    if (!paused) refresh();
  });
  show("Updates every 5 s", false);

  const swap = (fresh) => {
    const focused = document.activeElement?.id;
    const opened = new Map([...document.querySelectorAll("details[id]")].map((d) => [d.id, d.open]));
    const scrolled = new Map([...document.querySelectorAll(".scroll[id]")].map((d) => [d.id, [d.scrollLeft, d.scrollTop]]));
    const y = window.scrollY;
    for (const id of sections) {
      const next = fresh.getElementById(id);
      if (!next || last.get(id) === next.outerHTML) continue;
      last.set(id, next.outerHTML);
      const node = document.adoptNode(next);
      node.querySelectorAll("details[id]").forEach((d) => { if (opened.has(d.id)) d.open = opened.get(d.id); });
      byId(id).replaceWith(node);
      node.querySelectorAll(".scroll[id]").forEach((d) => { [d.scrollLeft, d.scrollTop] = scrolled.get(d.id) ?? [0, 0]; });
    }
    // The headline is read out, so it is touched only when it says something else.
    for (const id of ["headline", "source", "asof"]) {
      const [now, next] = [byId(id), fresh.getElementById(id)];
      if (next && now.innerHTML !== next.innerHTML) now.replaceChildren(...document.adoptNode(next).childNodes);
    }
    if (document.title !== fresh.title) document.title = fresh.title;
    if (focused && document.activeElement?.id !== focused) byId(focused)?.focus({ preventScroll: true });
    window.scrollTo({ top: y, behavior: "instant" });
  };

  let running = false;
  const refresh = async () => {
    if (paused || running || document.hidden) return;
    running = true;
    const stop = new AbortController();
    const timer = setTimeout(() => stop.abort(), PATIENCE);
    try {
      const reply = await fetch("./", { cache: "no-store", signal: stop.signal });
      const text = await reply.text();
      const fresh = new DOMParser().parseFromString(text, "text/html");
      if (!reply.ok || !fresh.getElementById("live")) throw new Error(String(reply.status));
      if (!paused) { swap(fresh); show("Updates every 5 s", false); }
    } catch {
      const since = new Date().toISOString().slice(11, 19);
      if (!state.classList.contains("lost")) show(`No answer since ${since} UTC: what is shown is old`, true);
    } finally {
      clearTimeout(timer);
      running = false;
    }
  };
  setInterval(refresh, EVERY);
  document.addEventListener("visibilitychange", refresh);
})();
