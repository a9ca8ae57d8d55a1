// One image: what lies over it, the review by key, and the normal images that it is most like.

import { ask, attempt, say } from "./api.js";
import { key } from "./keys.js";

const one = document.getElementById("one");
const next = document.getElementById("next");

function toggles(buttonId, layerId, name, text, store) {
  const button = document.getElementById(buttonId);
  const layer = document.getElementById(layerId);
  if (!button || !layer) return;
  const set = (on) => {
    button.setAttribute("aria-pressed", String(on));
    layer.toggleAttribute("hidden", !on);
  };
  const turn = () => {
    const on = button.getAttribute("aria-pressed") !== "true";
    localStorage.setItem(store, on ? "on" : "off");
    set(on);
  };
  set(localStorage.getItem(store) !== "off");
  button.addEventListener("click", turn);
  key(name, text, turn);
}

toggles("overlay", "over", "o", "overlay on or off", "unlike-overlay");
toggles("regions", "boxes", "b", "boxes of regions on or off", "unlike-boxes");

const goOn = document.getElementById("go-on");
if (goOn) {
  goOn.checked = localStorage.getItem("unlike-go-on") !== "off";
  goOn.addEventListener("change", () => localStorage.setItem("unlike-go-on", goOn.checked ? "on" : "off"));
}

async function review(verdict) {
  const body = { verdict, kind: document.getElementById("kind").value.trim(), note: document.getElementById("remark").value.trim() };
  const done = await attempt(() => ask(`/images/${one.dataset.id}/review`, { method: "POST", body }));
  if (!done) return;
  say("Noted.");
  if (goOn.checked && next) location.assign(next.href);
  else location.reload();
}

const TEXTS = { right: "the detector is right", false_alarm: "false alarm", missed: "missed defect" };
for (const button of document.querySelectorAll("[data-verdict]")) {
  const { verdict } = button.dataset;
  button.addEventListener("click", () => review(verdict));
  key(verdict[0], TEXTS[verdict], () => review(verdict));
}
const kind = document.getElementById("kind");
if (kind) {
  key("k", "write the kind of the defect", () => kind.select());
  kind.addEventListener("keydown", (event) => {
    if (event.key === "Enter") kind.blur();
  });
}
key("n", "next that is not reviewed", () => (next ? next.click() : say("All others are reviewed.")));
key("ArrowRight", "next that is not reviewed", () => next?.click());
key("ArrowLeft", "back", () => history.back());
key("u", "back to the list", () => document.getElementById("back").click());

const alike = document.getElementById("alike");
if (alike) {
  try {
    const { items } = await ask(alike.dataset.from);
    alike.replaceChildren(
      ...items.map(({ id, picture }) => {
        const [figure, caption] = ["figure", "figcaption"].map((tag) => document.createElement(tag));
        caption.textContent = id;
        caption.title = id;
        if (picture) {
          const shown = new Image();
          shown.src = picture;
          shown.alt = `normal image ${id}`;
          figure.append(shown);
        }
        figure.append(caption);
        return figure;
      }),
    );
    if (!items.length) alike.textContent = "This detector keeps none to compare with.";
    else if (!items.some(({ picture }) => picture)) {
      alike.textContent = `${items.map(({ id }) => id).join(", ")}. Pictures of them are shown where the detector was fitted with --keep-pictures, or on images that were uploaded here.`;
      alike.classList.add("soft", "plain-text");
    }
  } catch (error) {
    alike.textContent = error.message;
  }
}
