// What all pages have: buttons and forms that go by REST, dialogs, drop zones, jobs that are followed.

import { ask, attempt, follow, say, sure, tellTimes } from "./api.js";
import { key } from "./keys.js";

function changeTheme() {
  const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  localStorage.setItem("unlike-theme", next);
  document.documentElement.dataset.theme = next;
}

document.getElementById("theme").addEventListener("click", changeTheme);
if (document.getElementById("show-keys")) key("t", "light or dark", changeTheme);
tellTimes();

document.addEventListener("click", async (event) => {
  const close = event.target.closest("[data-close]");
  if (close) return close.closest("dialog").close();
  const button = event.target.closest("[data-post]");
  if (!button) return undefined;
  const { post, method = "POST", body, sure: question, go } = button.dataset;
  if (question && !(await sure(question))) return undefined;
  button.disabled = true;
  const done = await attempt(() => ask(post, { method, body: body === undefined ? undefined : JSON.parse(body) }));
  button.disabled = false;
  if (done) go ? location.assign(go) : location.reload();
  return undefined;
});

document.addEventListener("submit", async (event) => {
  const form = event.target.closest("form[data-form]");
  if (!form) return;
  event.preventDefault();
  const done = await attempt(() => ask(form.dataset.form, { method: "POST", body: Object.fromEntries(new FormData(form)) }));
  if (done) location.assign(form.dataset.go);
});

for (const zone of document.querySelectorAll("[data-drop]")) {
  const mark = (on) => (event) => {
    event.preventDefault();
    zone.classList.toggle("over", on);
  };
  zone.addEventListener("dragover", mark(true));
  zone.addEventListener("dragleave", mark(false));
  zone.addEventListener("drop", (event) => {
    mark(false)(event);
    const inputs = [...zone.querySelectorAll('input[type="file"]')];
    const input = inputs.find((one) => !one.webkitdirectory) ?? inputs[0];
    if (!event.dataTransfer.files.length) return say("Nothing there that could be taken; choose a folder instead.", true);
    input.files = event.dataTransfer.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
    return undefined;
  });
}

for (const place of document.querySelectorAll("[data-job]")) {
  if (["running", "queued"].includes(place.dataset.state)) follow(place.dataset.job, place).then((how) => say(`The job is ${how}.`, how !== "done"));
}

const again = document.querySelector("[data-again]");
if (again) setTimeout(() => location.reload(), Number(again.dataset.again));
