// The list of what comes: new images are put in front while it is looked at, and keys walk through it.

import { attempt, part, say, send, tellTimes } from "./api.js";
import { key } from "./keys.js";

const list = document.getElementById("cards");
const live = document.getElementById("live");
const button = document.getElementById("more-came");
const MOST = 240; // cards that stay
const EVERY = 2000; // milliseconds
let waiting = [];

const ids = () => new Set([...list.children, ...waiting].map((one) => one.dataset.id));
const newest = () => [...waiting, ...list.children].map((one) => one.dataset.at).sort().at(-1) ?? "";

function put(cards) {
  for (const one of cards) one.classList.add("fresh");
  tellTimes({ querySelectorAll: (what) => cards.flatMap((one) => [...one.querySelectorAll(what)]) });
  list.prepend(...cards);
  while (list.children.length > MOST) list.lastElementChild.remove();
  document.getElementById("none").hidden = list.children.length > 0;
}

function offer() {
  button.hidden = waiting.length === 0;
  button.textContent = `${waiting.length} new`;
}

button.addEventListener("click", () => {
  put(waiting);
  waiting = [];
  offer();
  scrollTo({ top: 0 });
});

async function look() {
  const after = newest();
  const found = await part(`${list.dataset.source}${after ? `&after=${encodeURIComponent(after)}` : ""}`);
  const there = ids();
  const fresh = [...found.querySelectorAll("li")].filter((one) => !there.has(one.dataset.id));
  // who reads further down, or walks by keys, is not pushed away
  if (scrollY < 200 && !list.contains(document.activeElement)) put(fresh);
  else waiting = [...fresh, ...waiting];
  offer();
  if (fresh.length) say(`${fresh.length} new ${fresh.length === 1 ? "image" : "images"}`);
}

if ("live" in list.dataset) {
  live.classList.add("on");
  setInterval(async () => {
    if (document.hidden) return;
    try {
      await look();
      live.classList.add("on");
      live.lastElementChild.textContent = "new ones come by themselves";
    } catch {
      live.classList.remove("on");
      live.lastElementChild.textContent = "the service does not answer; trying again";
    }
  }, EVERY);
}

for (const one of document.querySelectorAll("#filters select, #filters input")) one.addEventListener("change", () => one.form.requestSubmit());
document.getElementById("filters").addEventListener("formdata", (event) => {
  for (const [name, value] of [...event.formData]) if (!value) event.formData.delete(name);
});

function step(by) {
  const links = [...list.querySelectorAll("a")];
  const at = links.indexOf(document.activeElement);
  links.at(at < 0 ? 0 : Math.min(Math.max(at + by, 0), links.length - 1))?.focus();
}

key("j", "next image of the list", () => step(1));
key("k", "image before", () => step(-1));
key("n", "review the next", () => document.getElementById("review-next")?.click());
key("a", "anomalous ones, or all", () => {
  const field = document.getElementById("verdict");
  field.value = field.value === "anomalous" ? "" : "anomalous";
  field.form.requestSubmit();
});

document.getElementById("score")?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const files = document.getElementById("score-files").files;
  if (!files.length) return say("Choose images first.", true);
  const form = new FormData();
  for (const one of files) form.append("file", one, one.name);
  const name = document.getElementById("score-detector").value;
  const found = await attempt(() => send(`/detectors/${encodeURIComponent(name)}/score`, form, (share) => say(`sending, ${Math.round(100 * share)} %`)));
  if (!found) return undefined;
  const odd = found.items.filter((one) => one.anomalous).length;
  const bad = found.items.filter((one) => one.error);
  say(`${found.items.length} images, ${odd} anomalous${bad.length ? `; ${bad.length} could not be used: ${bad[0].error}` : ""}`, bad.length > 0);
  event.target.reset();
  scrollTo({ top: 0 });
  return look();
});
