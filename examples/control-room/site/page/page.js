"use strict";
(() => {
  const TYPING_MS = 120;      // the pause in typing after which the text is sent
  const PICTURE_MS = 500;     // the least time between two pictures
  const SPOKEN_MS = 1500;     // the least time between two counts read aloud
  const RETRY_MS = 1000;      // the delay before reconnecting
  const NAMES = { standalone: "a plain process", gtk: "a GTK 4 window", winit: "a winit window" };

  const $ = (id) => document.getElementById(id);
  const put = (id, text) => { if ($(id).textContent !== text) $(id).textContent = text; };
  const figure = new Intl.NumberFormat("en");
  let shown = null;           // the state on the screen
  let next = null;            // the newest state, drawn in the next frame

  // --- the states, over WebSocket ---------------------------------------------------------------

  function listen() {
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/live`);
    socket.onopen = () => status("live", "Live");
    socket.onmessage = (event) => take(JSON.parse(event.data));
    socket.onclose = () => {
      status("lost", "Reconnecting…");
      setTimeout(listen, RETRY_MS);
    };
  }

  function status(state, text) {
    $("status").dataset.state = state;
    put("status-text", text);
  }

  function take(state) {
    if (!next) requestAnimationFrame(draw);
    next = state;
  }

  // --- drawing ------------------------------------------------------------------------------

  function draw() {
    const state = next, before = shown;
    next = null;
    shown = state;
    $("main").removeAttribute("aria-busy");
    put("count", figure.format(state.count));
    put("rps", figure.format(state.rps));
    put("requests", figure.format(state.requests));
    put("fps", figure.format(state.fps));
    if (!before || before.count !== state.count) speak();
    if (!typing.busy) typing.show(state.text);
    if (!before || before.host !== state.host) host(state.host);
    if (!before || before.count !== state.count || before.text !== state.text || files.changed(before, state)) picture.stale();
    if (!before || files.changed(before, state)) files.show(state);
    plot(state.history);
  }

  function host(name) {
    const windowed = name !== "standalone";
    put("about", `Served from ${NAMES[name] || name}, by its own thread`);
    put("text-hint", windowed ? "The window and every open page show the same." : "Every open page shows the same.");
    $("fps-figure").hidden = !windowed;
    picture.offer(windowed);
  }

  function plot(history) {
    const peak = Math.max(...history), top = nice(peak);
    const points = history.map((rate, i) => `${i} ${(99 - 98 * rate / top).toFixed(1)}`);
    $("line").setAttribute("d", "M" + points.join("L"));
    $("area").setAttribute("d", `M0 100L${points.join("L")}L${history.length - 1} 100Z`);
    put("scale", figure.format(top));
    put("peak", figure.format(peak));
  }

  // The next of 10, 20, 50, 100, ... so that the scale is easy to read and seldom changes.
  function nice(value) {
    let step = 10;
    for (;;) for (const factor of [2, 2.5, 2]) { if (step >= value) return step; step *= factor; }
  }

  // The big number may change many times a second; the number read aloud must not.
  let speaking = 0;
  function speak() {
    if (speaking) return;
    speaking = setTimeout(() => { speaking = 0; put("count-spoken", `Count ${shown.count}`); }, SPOKEN_MS);
  }

  // --- the text, both ways ------------------------------------------------------------------

  const typing = {
    field: $("text"), timer: 0, sending: false, composing: false,
    // While this is true, the text in the field is newer than the text from the stream.
    get busy() { return this.timer || this.sending || this.composing; },
    show(text) {
      if (this.field.value === text) return;
      const { selectionStart, selectionEnd } = this.field;
      this.field.value = text;
      if (document.activeElement === this.field) this.field.setSelectionRange(selectionStart, selectionEnd);
    },
    changed() {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => { this.timer = 0; this.send(); }, TYPING_MS);
    },
    async send() {
      if (this.sending || this.composing) return;
      this.sending = true;
      const text = this.field.value;
      const ok = await post("PUT", "/text", text);
      this.sending = false;
      // One at a time and the newest last: two in flight could overtake each other.
      if (ok && this.field.value !== text && !this.timer) this.send();
      else if (!this.busy && shown) this.show(ok ? text : shown.text);
    },
    clear() { clearTimeout(this.timer); this.timer = 0; this.field.value = ""; this.send(); },
  };

  async function post(method, path, body) {
    try {
      const answer = await fetch(path, { method, body, headers: body === undefined ? {} : { "content-type": "text/plain; charset=utf-8" } });
      if (!answer.ok) throw new Error(`${answer.status} ${answer.statusText}`);
      // The stream brings the state. Only without it is the answer the newest state.
      if ($("status").dataset.state !== "live") take(await answer.json());
      return true;
    } catch (error) {
      status("lost", "No answer");
      console.warn(method, path, error);
      return false;
    }
  }

  // --- the window's picture -----------------------------------------------------------------

  const picture = {
    offered: false, dirty: false, timer: 0, loading: false, url: "",
    offer(offered) {
      this.offered = offered;
      if (!offered) this.show(null);
    },
    // Fetching a picture is a request, and so changes the rate. So it follows count and text
    // only; otherwise it would trigger itself forever.
    stale() {
      this.dirty = true;
      if (!this.offered || this.timer || this.loading || document.hidden) return;
      this.dirty = false;
      this.timer = setTimeout(() => { this.timer = 0; if (this.dirty) this.stale(); }, PICTURE_MS);
      this.load();
    },
    async load() {
      this.loading = true;
      try {
        const answer = await fetch("/window.png", { cache: "no-store" });
        if (answer.ok) this.show(URL.createObjectURL(await answer.blob()));
        else { this.offered = false; this.show(null); }
      } catch { /* the stream notices that the program is gone, and reconnects when it is back */ }
      this.loading = false;
      if (this.dirty && !this.timer) this.stale();
    },
    show(url) {
      if (url) $("window").src = url;
      $("picture").hidden = $("picture-link").hidden = !url;
      $("main").classList.toggle("with-picture", !!url);
      if (this.url) URL.revokeObjectURL(this.url);
      this.url = url || "";
    },
  };

  // --- the search ---------------------------------------------------------------------------

  // The states arrive as events of a response that is read while it grows. EventSource would not
  // do: it would search again when the response has ended, and hide the text of an error.
  const search = {
    running: null, state: null, stale: false,
    async start(pattern) {
      this.cancel();
      const running = this.running = new AbortController();
      this.show({ phase: "waiting", fraction: 0, summary: "Waiting for an answer…", error: null, first: [] });
      try {
        const answer = await fetch("/search?" + new URLSearchParams({ q: pattern }), { signal: running.signal });
        if (!answer.ok) throw new Error((await answer.text()).trim() || answer.statusText);
        await this.read(answer.body.pipeThrough(new TextDecoderStream()).getReader(), running);
        if (this.running === running) throw new Error("The response was cut off");
      } catch (error) {
        if (this.running === running) this.fail(error instanceof TypeError ? "No answer" : error.message);
      }
    },
    async read(reader, running) {
      let text = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done || this.running !== running) return;
        const events = (text + value).split("\n\n");
        text = events.pop();
        const data = events.filter((event) => event.startsWith("data: "));
        if (data.length) this.show(JSON.parse(data.at(-1).slice("data: ".length)));
      }
    },
    // Closing the connection cancels the search on the server.
    cancel() {
      if (!this.running) return;
      this.running.abort();
      this.running = null;
      put("found", this.state.phase === "searching" ? `Cancelled: ${this.state.summary}` : "Cancelled");
      this.buttons();
    },
    fail(message) { this.show({ phase: "failed", fraction: 0, summary: "", error: message, first: [] }); },
    show(state) {
      this.state = state;
      if (state.phase === "waiting") this.stale = true;
      if (!["waiting", "filling", "searching"].includes(state.phase)) this.running = null;
      this.buttons();
      $("progress").value = state.fraction;
      put("found", state.summary);
      put("find-error", state.error || "");
      $("found").hidden = state.error !== null;
      $("find-error").hidden = state.error === null;
      this.list(state.first);
    },
    buttons() { $("search").disabled = !!this.running; $("cancel").disabled = !this.running; },
    // A search's list only grows. The previous list stays until there is something new, so that
    // the page does not jump.
    list(hits) {
      const list = $("hits");
      if (this.stale && this.running && !hits.length) return;
      if (this.stale || !hits.length) list.replaceChildren();
      this.stale = false;
      for (const hit of hits.slice(list.childElementCount)) {
        const item = document.createElement("li"), heading = document.createElement("b"), text = document.createElement("span");
        heading.textContent = hit.heading;
        text.textContent = hit.text;
        item.append(heading, text);
        list.append(item);
      }
      list.hidden = !hits.length;
    },
  };

  // --- files --------------------------------------------------------------------------------

  const files = {
    sending: null,
    changed: (before, after) => JSON.stringify([before.uploads, before.files]) !== JSON.stringify([after.uploads, after.files]),
    size(bytes) {
      const power = Math.min(3, Math.floor(Math.log2(Math.max(bytes, 1)) / 10));
      return `${(bytes / 1024 ** power).toFixed(power && bytes < 10 * 1024 ** power ? 1 : 0)} ${["bytes", "KiB", "MiB", "GiB"][power]}`;
    },
    // The progress is what the program has received, for the files of every page.
    show(state) {
      const bars = $("uploads");
      while (bars.childElementCount > state.uploads.length) bars.lastElementChild.remove();
      state.uploads.forEach((upload, i) => {
        let item = bars.children[i];
        if (!item) {
          item = bars.appendChild(document.createElement("li"));
          item.innerHTML = "<p><span></span><span></span></p><progress max=1></progress>";
        }
        const [name, share] = item.querySelectorAll("span"), bar = item.querySelector("progress");
        const fraction = upload.total ? Math.min(1, upload.done / upload.total) : null;
        name.textContent = upload.name;
        share.textContent = fraction === null ? this.size(upload.done) : `${Math.floor(100 * fraction)} %`;
        bar.setAttribute("aria-label", `Sending ${upload.name}`);
        if (fraction === null) bar.removeAttribute("value"); else bar.value = fraction;
      });
      const list = $("shelf");
      list.replaceChildren(...state.files.map((file) => {
        const item = document.createElement("li"), link = document.createElement("a"), size = document.createElement("span"), gone = document.createElement("button");
        link.href = "/files/" + encodeURIComponent(file.name);
        link.download = link.textContent = file.name;
        size.textContent = this.size(file.size);
        gone.className = "quiet";
        gone.textContent = "Delete";
        gone.setAttribute("aria-label", `Delete ${file.name}`);
        gone.onclick = () => this.remove(file.name);
        item.append(link, size, gone);
        return item;
      }));
      list.hidden = !state.files.length;
    },
    async send(chosen) {
      if (this.sending || !chosen.length) return;
      const form = new FormData();
      for (const file of chosen) form.append("file", file);
      this.sending = new AbortController();
      this.buttons();
      this.say(chosen.length === 1 ? `Sending ${chosen[0].name}…` : `Sending ${chosen.length} files…`);
      try {
        const answer = await fetch("/files/", { method: "POST", body: form, signal: this.sending.signal });
        const text = (await answer.text()).trim();
        if (!answer.ok) throw new Error(text || answer.statusText);
        this.say(`Sent ${text.split("\n").join(", ")}`);
        $("file").value = "";
      } catch (error) {
        if (error.name === "AbortError") this.say("Cancelled");
        else this.say("", error instanceof TypeError ? "The connection was lost" : error.message);
      }
      this.sending = null;
      this.buttons();
    },
    async remove(name) {
      try {
        const answer = await fetch("/files/" + encodeURIComponent(name), { method: "DELETE" });
        this.say(answer.ok ? `Deleted ${name}` : "", answer.ok ? null : (await answer.text()).trim());
        $("file").focus();
      } catch { this.say("", "No answer"); }
    },
    say(text, error = null) {
      put("file-status", text);
      put("file-error", error || "");
      $("file-status").hidden = error !== null;
      $("file-error").hidden = error === null;
    },
    buttons() {
      $("upload").disabled = !!this.sending || !$("file").files.length;
      $("abort").disabled = !this.sending;
    },
  };

  // --- user input -------------------------------------------------------------------

  $("add").onclick = () => post("POST", "/count");
  $("clear").onclick = () => { typing.clear(); typing.field.focus(); };
  $("refresh").onclick = () => picture.stale();
  $("find").onsubmit = (event) => { event.preventDefault(); search.start($("pattern").value); };
  $("cancel").onclick = () => search.cancel();
  $("pattern").onkeydown = (event) => { if (event.key === "Escape") search.cancel(); };
  $("file").onchange = () => files.buttons();
  $("send").onsubmit = (event) => { event.preventDefault(); files.send([...$("file").files]); };
  $("abort").onclick = () => files.sending?.abort();
  for (const [kind, over] of [["dragover", true], ["dragleave", false], ["drop", false]]) {
    $("drop").addEventListener(kind, (event) => {
      event.preventDefault();
      $("drop").classList.toggle("over", over);
      if (kind === "drop") files.send([...event.dataTransfer.files]);
    });
  }
  typing.field.oninput = () => typing.changed();
  typing.field.addEventListener("compositionstart", () => { typing.composing = true; });
  typing.field.addEventListener("compositionend", () => { typing.composing = false; typing.changed(); });
  document.addEventListener("visibilitychange", () => { if (!document.hidden && picture.dirty) picture.stale(); });

  fetch("/state").then((answer) => answer.json()).then((state) => { if (!shown && !next) take(state); }, () => {});
  listen();
})();
