"use strict";
// Samples arrive four times a second. The plots show two minutes.
const SHOWN = 480;
const COLORS = 12;
const samples = [];
// The kinds of work, by the names that the program's layers gave them. A program only adds to them.
let kinds = [];
const $ = (id) => document.getElementById(id);
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (count >= 1000 && unit < units.length - 1) { count /= 1024; unit += 1; }
  return `${count < 10 && unit ? count.toFixed(1) : Math.round(count)} ${units[unit]}`;
}
function milliseconds(time) {
  return time >= 1000 ? `${(time / 1000).toFixed(1)} s` : `${time >= 100 ? Math.round(time) : time.toFixed(time < 1 ? 2 : 1)} ms`;
}
function count(number) {
  return number >= 10000 ? `${(number / 1000).toFixed(number >= 100000 ? 0 : 1)} k` : `${Math.round(number)}`;
}
function duration(seconds) {
  if (seconds < 60) return `${seconds} s`;
  return seconds < 3600 ? `${Math.floor(seconds / 60)} min` : `${Math.floor(seconds / 3600)} h ${Math.floor(seconds / 60) % 60} min`;
}

function card(id, value, unit, note, bad) {
  const place = $(id);
  const shown = place.querySelector(".value");
  shown.textContent = value;
  if (unit) shown.append(Object.assign(document.createElement("small"), { textContent: ` ${unit}` }));
  place.querySelector(".note").textContent = note;
  place.classList.toggle("bad", Boolean(bad));
}

function rows(id, list, cells, empty) {
  const body = $(id).tBodies[0];
  if (!list.length) {
    const cell = Object.assign(document.createElement("td"), { textContent: empty, className: "empty", colSpan: 4 });
    const row = document.createElement("tr");
    row.append(cell);
    body.replaceChildren(row);
    return;
  }
  body.replaceChildren(...list.map((entry) => {
    const row = document.createElement("tr");
    for (const [text, kind] of cells(entry)) {
      row.append(Object.assign(document.createElement("td"), { textContent: text, className: kind || "" }));
    }
    return row;
  }));
}

// Draws lines or layers over time, with the newest sample at the right.
function plot(id, series, { unit, least, layers, mark, base = 10 }) {
  const canvas = $(id), scale = devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  if (!width) return;
  if (canvas.width !== Math.round(width * scale)) canvas.width = Math.round(width * scale);
  if (canvas.height !== Math.round(height * scale)) canvas.height = Math.round(height * scale);
  const draw = canvas.getContext("2d");
  draw.setTransform(scale, 0, 0, scale, 0, 0);
  draw.clearRect(0, 0, width, height);
  let top = least;
  for (const sample of samples) {
    const values = series.map(({ of }) => of(sample));
    top = Math.max(top, layers ? values.reduce((sum, value) => sum + value, 0) : Math.max(...values));
  }
  const power = base ** Math.floor(Math.log(top / 4) / Math.log(base));
  const step = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000].map((one) => one * power).find((one) => one * 4 >= top);
  top = Math.max(step * Math.ceil(top / step), step);
  const left = 58, bottom = height - 18, right = width - 4, upper = 8;
  const x = (index) => right - (samples.length - 1 - index) * (right - left) / (SHOWN - 1);
  const y = (value) => bottom - value / top * (bottom - upper);
  draw.font = "11px system-ui, sans-serif";
  draw.textBaseline = "middle";
  draw.lineWidth = 1;
  for (let value = 0; value <= top + step / 2; value += step) {
    draw.strokeStyle = color("grid");
    draw.beginPath();
    draw.moveTo(left, Math.round(y(value)) + .5);
    draw.lineTo(right, Math.round(y(value)) + .5);
    draw.stroke();
    draw.fillStyle = color("soft");
    draw.textAlign = "right";
    draw.fillText(unit(value), left - 8, y(value));
  }
  draw.textBaseline = "bottom";
  for (const [text, age] of [["2 min ago", SHOWN - 1], ["1 min", (SHOWN - 1) / 2], ["now", 0]]) {
    draw.textAlign = age ? (age > SHOWN / 2 ? "left" : "center") : "right";
    draw.fillText(text, right - age * (right - left) / (SHOWN - 1), height);
  }
  draw.save();
  draw.beginPath();
  draw.rect(left, 0, right - left, bottom + 1);
  draw.clip();
  const below = samples.map(() => 0);
  for (const { of, name } of series) {
    const above = samples.map((sample, index) => (layers ? below[index] : 0) + of(sample));
    draw.beginPath();
    above.forEach((value, index) => draw.lineTo(x(index), y(value)));
    if (layers) {
      for (let index = samples.length - 1; index >= 0; index -= 1) draw.lineTo(x(index), y(below[index]));
      draw.fillStyle = color(name);
      draw.globalAlpha = .85;
      draw.fill();
      draw.globalAlpha = 1;
      above.forEach((value, index) => { below[index] = value; });
    } else {
      draw.strokeStyle = color(name);
      draw.lineWidth = 1.6;
      draw.lineJoin = "round";
      draw.stroke();
    }
  }
  if (mark) {
    draw.strokeStyle = color("soft");
    draw.lineWidth = 1;
    draw.setLineDash([4, 4]);
    draw.beginPath();
    draw.moveTo(left, Math.round(y(mark)) + .5);
    draw.lineTo(right, Math.round(y(mark)) + .5);
    draw.stroke();
    draw.setLineDash([]);
  }
  draw.restore();
  const last = samples[samples.length - 1];
  canvas.setAttribute("aria-label", series.map(({ of, title }) => `${title}: ${unit(of(last))}`).join(", "));
}

function legend(id, entries) {
  $(id).replaceChildren(...entries.map(([name, title]) => {
    const entry = document.createElement("span"), dot = document.createElement("i");
    dot.style.background = `var(--${name})`;
    entry.append(dot, title);
    return entry;
  }));
}
const DURATIONS = [{ name: "two", title: "longest", of: null }, { name: "one", title: "99 of 100 shorter", of: null }];
const durations = (of) => DURATIONS.map((one, index) => ({ ...one, of: (sample) => of(sample)[3 - index] }));
legend("legend-gaps", DURATIONS.map(({ name, title }) => [name, title]));
legend("legend-turns", DURATIONS.map(({ name, title }) => [name, title]));
const kindColor = (index) => `kind-${index % COLORS}`;
const share = (sample, index) => sample.busy[index]?.[1] ?? 0;
function learn({ busy }) {
  if (busy.length === kinds.length) return;
  kinds = busy.map(([name]) => name);
  legend("legend-busy", kinds.map((name, index) => [kindColor(index), name]));
}
legend("legend-traffic", [["one", "received"], ["two", "sent"]]);

function plots() {
  if (!samples.length) return;
  const time = (value) => milliseconds(value).replace(/\.0+ /, " ");
  plot("plot-gaps", durations((sample) => sample.frames.gaps), { unit: time, least: 34, mark: 1000 / 60 });
  plot("plot-busy", kinds.map((title, index) => ({ name: kindColor(index), title, of: (sample) => share(sample, index) })), {
    unit: (value) => `${Math.round(value)} %`, least: 10, layers: true,
  });
  plot("plot-turns", durations((sample) => sample.turns), { unit: time, least: 1 });
  plot("plot-traffic", [
    { name: "one", title: "received", of: (sample) => sample.received },
    { name: "two", title: "sent", of: (sample) => sample.sent },
  ], { unit: bytes, least: 4096, base: 1024 });
}

function show(sample) {
  const { frames, stalls, timers, queue } = sample;
  document.body.classList.toggle("unframed", !frames.drawn);
  // Averages over a second, so that the numbers are readable.
  const recent = samples.slice(-4);
  const mean = (of) => recent.reduce((sum, one) => sum + of(one), 0) / recent.length;
  const most = (of) => Math.max(...recent.map(of));
  card("frames", Math.round(mean((one) => one.frames.rate)), "a second",
    `gap ${milliseconds(most((one) => one.frames.gaps[3]))} at most · ${count(frames.lost)} lost · cost ${milliseconds(frames.cost)}`);
  speak(sample, stalls);
  const total = mean((one) => one.busy.reduce((sum, [, time]) => sum + time, 0));
  card("busy", total < 10 ? total.toFixed(1) : Math.round(total), "%",
    `waited ${mean((one) => one.waited).toFixed(1)} % for a processor · ${count(queue.tasks + queue.calls)} queued`, total > 90);
  const [newest] = stalls.recent;
  card("stalls", count(stalls.count), "", newest ? `${milliseconds(newest[1])} of ${newest[0][0]}, ${ago(sample, newest[2])}` : "no callback held the thread",
    newest && sample.time - newest[2] < 10000);
  card("connections", count(sample.connections), "open", `${count(mean((one) => one.opened))} opened a second`);
  card("traffic", bytes(mean((one) => one.received + one.sent)), "a second",
    `${count(mean((one) => one.requests))} handler polls a second`);
  card("timers", milliseconds(most((one) => one.timers.late[2])), "", `${count(timers.pending)} pending · ${count(mean((one) => one.timers.late[0]))} due a second`);
  rows("table-places", stalls.places, ([[kind, place], times, longest]) => [
    [kind, "kind"], [place, "place"], [count(times), "number"], [milliseconds(longest), "number"],
  ], "No callback has held the thread for longer than the threshold.");
  rows("table-stalls", stalls.recent, ([[kind, place], held, at]) => [
    [ago(sample, at), "kind"], [kind, "kind"], [place, "place"], [milliseconds(held), "number"],
  ], "None.");
  $("ready").textContent = `${count(sample.tasks)}, ${count(queue.tasks)} ready`;
  if (sample.census) {
    const { connections, tasks, timers, sleeping } = sample.census;
    $("shown").textContent = connections.length < sample.connections ? `the busiest ${connections.length} of ${sample.connections}` : "";
    $("sleeping").textContent = `and ${count(sleeping)} of sleeping tasks`;
    rows("table-connections", connections, ([peer, received, sent, age]) => [
      [peer, "place"], [bytes(received), "number"], [bytes(sent), "number"], [duration(age), "number"],
    ], "None.");
    rows("table-tasks", tasks, ([[kind, place], alive]) => [[kind, "kind"], [place, "place"], [count(alive), "number"]], "None.");
    rows("table-timers", timers, ([[, place], pending, next]) => [[place, "place"], [count(pending), "number"], [milliseconds(next), "number"]], "None.");
  }
}
// Figures change four times a second. Only a new stall is worth being read aloud, and not each one.
let spoken = { count: -1, at: 0 };
function speak(sample, { count, recent: [newest] }) {
  if (count === spoken.count || sample.time - spoken.at < 5000) return;
  if (spoken.count >= 0 && newest) $("spoken").textContent = `${newest[0][0]} held the thread for ${milliseconds(newest[1])}`;
  spoken = { count, at: sample.time };
}
function ago(sample, at) {
  const seconds = Math.max(0, Math.round((sample.time - at) / 1000));
  return seconds ? `${duration(seconds)} ago` : "just now";
}

const events = new EventSource("live");
events.onopen = () => { $("state").textContent = "Live"; $("state").className = "live"; };
events.onerror = () => { $("state").textContent = "Not connected; trying again"; $("state").className = "lost"; };
events.onmessage = ({ data }) => {
  const sample = JSON.parse(data);
  samples.push(sample);
  if (samples.length > SHOWN) samples.shift();
  learn(sample);
  show(sample);
  requestAnimationFrame(plots);
};
addEventListener("resize", plots);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", plots);
