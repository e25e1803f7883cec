// The one script of the pages: actions go to the API, what changes is looked at again, logs are followed.
// Nothing here builds markup from text: lines and messages are set as text, whole parts come rendered from the server.
"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("script");
  const csrf = document.querySelector('meta[name="csrf-token"]')?.content ?? "";
  const byId = (id) => document.getElementById(id);

  // What messages have between backticks is code.
  function setProse(element, text) {
    element.replaceChildren(...text.split(/`([^`\n]+)`/).map((part, position) => {
      if (position % 2 === 0) return part;
      const code = document.createElement("code");
      code.textContent = part;
      return code;
    }));
  }

  // --- messages -----------------------------------------------------------------------------------------------
  function tell(message, isError = false) {
    const place = byId("feedback");
    place.setAttribute("role", isError ? "alert" : "status");
    setProse(place, message);
    place.classList.toggle("error", isError);
    place.hidden = !message;
    if (message && isError) place.scrollIntoView({ block: "nearest" });
  }

  function tellBriefly(message) {
    tell(message);
    const place = byId("feedback");
    const shown = place.textContent;
    setTimeout(() => { if (place.textContent === shown) tell(""); }, 8000);
  }

  const done = sessionStorage.getItem("done");
  sessionStorage.removeItem("done");
  if (done) tellBriefly(done);

  function announce(message) {
    byId("announce").textContent = message;
  }

  // --- actions ------------------------------------------------------------------------------------------------
  async function call(method, url, body) {
    const headers = { "X-CSRF-Token": csrf, Accept: "application/json" };
    if (body !== undefined) headers["Content-Type"] = "application/json";
    let response;
    try {
      response = await fetch(url, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
    } catch {
      throw new Error("Dormouse does not answer. Try again in a moment.");
    }
    const answer = await response.json().catch(() => ({}));
    if (response.ok) return answer;
    const reason = answer && typeof answer.error === "string" ? answer.error : `Refused with status ${response.status}.`;
    throw new Error(reason);
  }

  function valueOf(field, form) {
    if (field.value === "custom") {
      const custom = form.querySelector(`[data-custom-for="${field.name}"]`);
      return Number(custom.value);
    }
    if (field.dataset.type === "number") return Number(field.value);
    if (field.dataset.type === "boolean") return field.checked;
    return field.value;
  }

  function bodyOf(form) {
    const body = {};
    for (const field of form.elements) {
      const isUnchosen = field.type === "radio" && !field.checked;
      if (field.name && !field.disabled && !isUnchosen && field.type !== "submit") body[field.name] = valueOf(field, form);
    }
    return body;
  }

  const afterwards = {
    reload: (answer, element) => {
      sessionStorage.setItem("done", element.dataset.done ?? "Done.");
      location.reload();
    },
    watch: (answer, element) => {
      tellBriefly(element.dataset.done ?? "Done. The state of the Space follows.");
      hurry(20);
    },
    saved: (answer, form) => {
      tellBriefly("Saved.");
      for (const field of form.querySelectorAll('[type="password"]')) field.value = "";
      hurry(20);
    },
    refresh: (answer, element) => {
      if (element instanceof HTMLFormElement) element.reset();
      refreshParts();
      tellBriefly(element.dataset.done ?? "Done.");
      hurry(20);
    },
    url: (answer) => location.assign(new URL(answer.url, location.href).pathname),
    token: (answer, form) => {
      form.reset();
      refreshParts();
      const place = byId("new-token-shown");
      place.querySelector("code").textContent = answer.token ?? "";
      place.hidden = false;
      place.querySelector("pre").focus();
      tell("");
    },
  };

  async function act(element, body, button) {
    const { action, then = "refresh", confirm: question } = element.dataset;
    const method = element.querySelector(":checked[data-method]")?.dataset.method ?? element.dataset.method ?? "POST";
    if (question && !window.confirm(question)) return;
    if (button.getAttribute("aria-busy") === "true") return;
    button.setAttribute("aria-busy", "true");
    tell("");
    try {
      const answer = await call(method, action, body);
      if (then.startsWith("go:")) location.assign(then.slice(3));
      else afterwards[then](answer, element);
    } catch (error) {
      tell(error.message, true);
    } finally {
      button.removeAttribute("aria-busy");
    }
  }

  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!form.dataset.action) return;
    event.preventDefault();
    act(form, bodyOf(form), event.submitter ?? form.querySelector('[type="submit"]'));
  });

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const { action, key, id } = button.dataset;
    if (action) act(button, key ? { key } : id ? { id } : undefined, button);
    else if ("copy" in button.dataset) copy(button, button.parentElement.querySelector("code").textContent);
    else if ("copyLog" in button.dataset) copy(button, textOf(button.closest(".log").querySelector(".lines")));
  });

  document.addEventListener("input", (event) => {
    const field = event.target;
    if (field.dataset.mustEqual) {
      field.setCustomValidity(field.value === field.dataset.mustEqual ? "" : `Type ${field.dataset.mustEqual}`);
    }
    if (field.dataset.customFor) {
      field.form.querySelector(`[name="${field.dataset.customFor}"][value="custom"]`).checked = true;
    }
  });
  for (const field of document.querySelectorAll("[data-must-equal]")) field.dispatchEvent(new Event("input", { bubbles: true }));

  // --- copying ------------------------------------------------------------------------------------------------
  async function copy(button, text) {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Without https browsers offer no clipboard; the old way still works.
      const helper = document.createElement("textarea");
      helper.value = text;
      document.body.append(helper);
      helper.select();
      document.execCommand("copy");
      helper.remove();
      button.focus();
    }
    const before = button.textContent;
    button.textContent = "Copied";
    announce("Copied");
    setTimeout(() => { button.textContent = before; }, 1500);
  }

  for (const place of document.querySelectorAll(".command")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "small";
    button.dataset.copy = "";
    button.textContent = "Copy";
    place.append(button);
  }

  // --- times --------------------------------------------------------------------------------------------------
  const serverTime = Number(document.querySelector('meta[name="server-time"]')?.content);
  const clockBehind = serverTime ? serverTime - Date.now() / 1000 : 0;

  function ago(seconds) {
    if (seconds < 5) return "just now";
    if (seconds < 60) return `${Math.floor(seconds)} s ago`;
    if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
    if (seconds < 48 * 3600) return `${Math.floor(seconds / 3600)} h ago`;
    if (seconds < 30 * 86400) return `${Math.floor(seconds / 86400)} days ago`;
    return "";
  }

  function elapsed(seconds) {
    const whole = Math.max(0, Math.round(seconds));
    return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
  }

  function clockTime(when) {
    return when.toLocaleTimeString([], { hour12: false });
  }

  function setText(element, text) {
    if (text && element.textContent !== text) element.textContent = text;
  }

  function refreshTimes() {
    const now = Date.now() / 1000 + clockBehind;
    for (const item of document.querySelectorAll("[data-ago]")) setText(item, ago(now - item.dataset.ago));
    for (const item of document.querySelectorAll("[data-clock]")) setText(item, clockTime(new Date(item.dateTime)));
    for (const item of document.querySelectorAll("[data-elapsed]")) setText(item, elapsed(now - item.dataset.elapsed));
  }
  setInterval(refreshTimes, 1000);
  refreshTimes();

  // --- parts that change --------------------------------------------------------------------------------------
  const lastSeen = new Map();
  const pauses = { hurried: 400, moving: 1000, settled: 4000, failed: 8000 };
  const timers = new Map();
  let hurriedUntil = 0;

  function signature(element) {
    const bare = element.cloneNode(true);
    for (const item of bare.querySelectorAll("time, [data-elapsed]")) item.textContent = "";
    return bare.outerHTML;
  }

  async function fetchPart(id, url) {
    const response = await fetch(url, { headers: { Accept: "text/html" } });
    if (response.status === 404) return null;
    if (!response.ok) throw new Error(`status ${response.status}`);
    return new DOMParser().parseFromString(await response.text(), "text/html").getElementById(id);
  }

  // The stage comes from the API; the rendered part is fetched only when that has changed, or while things move.
  async function hasNews(element) {
    const { runtime, moving } = element.dataset;
    if (moving === "1") return true;
    if (!runtime) return false;
    const text = await (await fetch(runtime, { headers: { Accept: "application/json" } })).text();
    const before = lastSeen.get(element.id);
    lastSeen.set(element.id, text);
    return before !== text;
  }

  function replace(element, next) {
    const before = element.dataset;
    const after = next.dataset;
    element.replaceWith(next);
    refreshTimes();
    if (before.headline !== after.headline) announce(after.headline);
    if (before.stage !== after.stage || before.moving !== after.moving) refreshParts('[data-refresh="state"]');
    if (before.frame !== after.frame) showFrame(after.frame === "1");
    else if (before.stage !== after.stage && byId("app") && after.frame === "0") location.reload();
  }

  async function look(id, force) {
    const element = byId(id);
    try {
      if (force || (!document.hidden && (await hasNews(element)))) {
        const next = await fetchPart(id, element.dataset.live);
        // Two looks may be under way: what is on the page now counts, not what was.
        if (next && signature(next) !== signature(byId(id))) replace(byId(id), next);
      }
    } catch {
      return pauses.failed;
    }
    if (Date.now() < hurriedUntil) return pauses.hurried;
    const { moving, stage } = byId(id).dataset;
    // Looking at a sleeping Space wakes it, so news is near.
    return moving === "1" || stage === "SLEEPING" ? pauses.moving : pauses.settled;
  }

  async function watch(id, force = false) {
    const pause = await look(id, force);
    clearTimeout(timers.get(id));
    timers.set(id, setTimeout(watch, pause, id));
  }

  function lookAtAll(force) {
    for (const element of document.querySelectorAll("[data-live]")) watch(element.id, force);
  }

  // Something was set going: look at once, and often for a while.
  function hurry(seconds) {
    hurriedUntil = Date.now() + seconds * 1000;
    lookAtAll(true);
  }
  for (const element of document.querySelectorAll("[data-live]")) {
    timers.set(element.id, setTimeout(watch, pauses.moving, element.id));
  }
  document.addEventListener("visibilitychange", () => { if (!document.hidden) lookAtAll(false); });
  // A frame that loads has asked for the app, which wakes it, or has just turned from the waking page into the app.
  document.addEventListener("load", (event) => { if (event.target.tagName === "IFRAME") hurry(6); }, true);
  if (document.querySelector("iframe")) hurry(6);

  // Buttons that follow from the state, and lists after an action: taken anew from the page's own address.
  async function refreshParts(which = "[data-refresh]") {
    const parts = [...document.querySelectorAll(which)];
    if (!parts.length) return;
    const response = await fetch(location.href, { headers: { Accept: "text/html" } }).catch(() => null);
    if (!response?.ok) return;
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
    for (const part of parts) {
      const next = fresh.getElementById(part.id);
      if (!next || signature(next) === signature(part)) continue;
      const focused = part.contains(document.activeElement) ? document.activeElement.dataset.action : undefined;
      part.replaceWith(next);
      if (focused === undefined) continue;
      const same = [...next.querySelectorAll("button")].find((button) => button.dataset.action === focused);
      (same ?? byId("main")).focus({ preventScroll: true });
    }
    refreshTimes();
  }

  // A running app's frame is never touched: it is put in when there is something to show, taken out when the app ended.
  function showFrame(isShown) {
    const place = byId("app");
    const template = byId("frame");
    if (!place) return;
    if (!isShown || !template) location.reload();
    else if (!place.querySelector("iframe")) place.replaceChildren(template.content.cloneNode(true));
  }

  // --- logs ---------------------------------------------------------------------------------------------------
  const LINES_MAX = 5000;
  const CODES = /\x1b\[([0-9;]*)m/;
  const OTHER_CODES = /\x1b\[[0-?]*[ -/]*[@-ln-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[ -/]*[0-Z\\^-~]|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f]/g;

  function applyCodes(style, codes) {
    for (const code of codes.split(";").map(Number)) {
      if (code === 38 || code === 48) return;
      if (code === 0) { style.colour = ""; style.bold = false; }
      else if (code === 1) style.bold = true;
      else if (code === 22) style.bold = false;
      else if (code === 39) style.colour = "";
      else if (code >= 30 && code <= 37) style.colour = `c${code - 30}`;
      else if (code >= 90 && code <= 97) style.colour = `c${code - 90}`;
    }
  }

  function appendColoured(element, text) {
    const clean = text.replace(/[\r\n]+$/, "").split("\r").pop().replace(OTHER_CODES, "");
    const style = { colour: "", bold: false };
    clean.split(CODES).forEach((piece, position) => {
      if (position % 2) return applyCodes(style, piece);
      const part = piece.replaceAll("\x1b", "");
      if (!part) return undefined;
      if (!style.colour && !style.bold) return element.append(part);
      const span = document.createElement("span");
      if (style.colour) span.classList.add(style.colour);
      if (style.bold) span.classList.add("bold");
      span.textContent = part;
      return element.append(span);
    });
  }

  function lineOf({ data, timestamp }) {
    const line = document.createElement("div");
    const when = new Date(timestamp);
    if (!Number.isNaN(when.getTime())) {
      const time = document.createElement("time");
      time.dateTime = timestamp;
      time.title = when.toLocaleString();
      time.textContent = clockTime(when);
      line.append(time);
    }
    appendColoured(line, String(data ?? "").slice(0, 8000));
    return line;
  }

  function textOf(lines) {
    const bare = (line) => [...line.childNodes].filter((node) => node.nodeName !== "TIME").map((node) => node.textContent).join("");
    return [...lines.children].map(bare).join("\n") + "\n";
  }

  // The log of a build ends with it; the log of an app never does.
  async function isOver(build) {
    if (!build) return false;
    const answer = await call("GET", build).catch(() => ({}));
    return Boolean(answer.status) && !["queued", "running"].includes(answer.status);
  }

  function follow(log) {
    const lines = log.querySelector(".lines");
    const state = log.querySelector(".state");
    const box = log.querySelector("[data-follow]");
    const source = new EventSource(log.dataset.stream);
    // After a lost connection the log is told again from its start; what is on the page already is passed over.
    let last = "", atLast = 0, skip = 0, isFirst = true, waiting = [];

    function isRepeat(timestamp) {
      if (timestamp < last) return true;
      if (timestamp === last && skip > 0) { skip -= 1; return true; }
      if (timestamp === last) atLast += 1;
      else { last = timestamp; atLast = 1; skip = 0; }
      return false;
    }

    function flush() {
      const batch = document.createDocumentFragment();
      for (const event of waiting.slice(-LINES_MAX)) batch.append(lineOf(event));
      waiting = [];
      lines.append(batch);
      while (lines.childElementCount > LINES_MAX) lines.firstElementChild.remove();
      if (box.checked) lines.scrollTop = lines.scrollHeight;
      state.textContent = `Live, ${lines.childElementCount} lines`;
    }

    source.onopen = () => { skip = atLast; if (!lines.childElementCount || isFirst) state.textContent = "Live, waiting for lines"; };
    source.onmessage = (message) => {
      let event;
      try { event = JSON.parse(message.data); } catch { return; }
      if (isFirst) { lines.replaceChildren(); isFirst = false; }
      if (isRepeat(event.timestamp)) return;
      if (!waiting.length) requestAnimationFrame(flush);
      waiting.push(event);
    };
    source.onerror = async () => {
      if (source.readyState === EventSource.CLOSED) state.textContent = "The live log cannot be read now. Load the page again.";
      else if (await isOver(log.dataset.build)) { source.close(); state.textContent = `Complete, ${lines.childElementCount} lines`; }
      else state.textContent = "Connection lost, trying again…";
    };
    lines.addEventListener("wheel", () => { box.checked = lines.scrollTop + lines.clientHeight >= lines.scrollHeight - 40 && box.checked; }, { passive: true });
    box.addEventListener("change", () => { if (box.checked) lines.scrollTop = lines.scrollHeight; });
  }

  for (const log of document.querySelectorAll(".log")) {
    const lines = log.querySelector(".lines");
    lines.scrollTop = lines.scrollHeight;
    if (log.dataset.stream) follow(log);
  }
})();
