// The threshold is moved, by hand or by key, and the table says what would change.

import { ask, attempt, follow, say } from "./api.js";

const place = document.getElementById("threshold");
const { stops, chosen, now } = JSON.parse(place.dataset.view);
const slider = document.getElementById("stop");
const chart = document.getElementById("histogram");
const save = document.getElementById("save-go");
const percent = (share) => `${Number((100 * share).toPrecision(3))} %`;
const put = (id, text) => (document.getElementById(id).textContent = text);
const plus = (value, before) => (value === before ? `${value}` : `${value} (${value > before ? "+" : "−"}${Math.abs(value - before)})`);

function show(at) {
  const stop = stops[at];
  document.getElementById("moved").setAttribute("transform", `translate(${stop.x} 0)`);
  const beyond = document.getElementById("beyond");
  beyond.setAttribute("x", stop.x);
  beyond.setAttribute("width", Math.max(0, 1000 - stop.x));
  put("new-threshold", Number(stop.threshold.toPrecision(4)));
  put("new-share", percent(stop.share));
  put("new-p", stop.share.toFixed(4));
  put("new-found", plus(stop.found, now.found));
  put("new-false", plus(stop.false_alarms, now.false_alarms));
  put("new-flagged", plus(stop.flagged, now.flagged));
  slider.setAttribute("aria-valuetext", `at most ${percent(stop.share)} false alarms, threshold ${stop.threshold.toPrecision(4)}`);
  if (save) save.disabled = stop.threshold === now.threshold;
}

slider.addEventListener("input", () => show(Number(slider.value)));

function drag(event) {
  const box = chart.getBoundingClientRect();
  const x = (1000 * (event.clientX - box.left)) / box.width;
  const nearest = stops.reduce((best, stop, at) => (Math.abs(stop.x - x) < Math.abs(stops[best].x - x) ? at : best), 0);
  slider.value = nearest;
  show(nearest);
}

chart.addEventListener("pointerdown", (event) => {
  chart.setPointerCapture(event.pointerId);
  drag(event);
});
chart.addEventListener("pointermove", (event) => chart.hasPointerCapture(event.pointerId) && drag(event));
if (stops.length) slider.value = chosen;

document.getElementById("save")?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const stop = stops[Number(slider.value)];
  const body = {
    version: Number(place.dataset.version),
    threshold: "conformal",
    false_alarms: stop.share,
    promote: document.getElementById("save-promote")?.checked ?? false,
    note: document.getElementById("save-note").value.trim() || `at most ${percent(stop.share)} false alarms`,
  };
  save.disabled = true;
  const job = await attempt(() => ask(`/detectors/${place.dataset.detector}/calibrate`, { method: "POST", body }));
  if (!job) return (save.disabled = false);
  const how = await follow(job.id, document.getElementById("save-job"));
  if (how === "done" && body.promote) return location.reload();
  return say(how === "done" ? "Saved as a candidate; an admin promotes it." : "It was not saved.", how !== "done");
});
