// A detector from a folder: sent, looked at, and only then fitted.

import { ask, attempt, follow, say, send } from "./api.js";

const form = document.getElementById("upload");
const field = (id) => document.getElementById(id);
let kept;

/** Files of a form with their places in the folder that was chosen. */
export function filesOf(...inputs) {
  const data = new FormData();
  for (const input of inputs) for (const one of input.files) data.append("file", one, one.webkitRelativePath || one.name);
  return data;
}

if (form) {
  form.addEventListener("change", () => {
    const files = [...field("folder").files, ...field("files").files];
    const bytes = files.reduce((sum, one) => sum + one.size, 0);
    field("chosen").textContent = files.length ? `${files.length} files, ${(bytes / 1e6).toFixed(1)} MB` : "";
  });

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const data = filesOf(field("folder"), field("files"));
    if (!data.has("file")) return say("Choose a folder, a zip or images first.", true);
    for (const name of ["name", "preset", "false_alarms"]) data.append(name, field(name).value);
    data.append("fit", "false");
    field("sending").hidden = false;
    const job = await attempt(() => send("/detectors", data, (share) => (field("sent").value = share)));
    field("sending").hidden = true;
    if (!job) return undefined;
    kept = job;
    leftOut(job.upload);
    field("before").hidden = true;
    const how = await follow(job.id, field("looked"));
    field("go").hidden = how !== "done";
    field("go").scrollIntoView({ block: "nearest" });
    return undefined;
  });

  field("again").addEventListener("click", async () => {
    await attempt(() => ask(`/detectors/${encodeURIComponent(kept.detector)}/normals/${kept.upload.upload}`, { method: "DELETE" }));
    location.reload();
  });

  field("fit").addEventListener("click", async () => {
    field("go").hidden = true;
    const choices = { preset: field("preset").value || null, false_alarms: share(field("false_alarms").value) };
    const body = { uploads: [kept.upload.upload], reviewed: false, inspect: false, choices, note: "the first" };
    const job = await attempt(() => ask(`/detectors/${encodeURIComponent(kept.detector)}/fit`, { method: "POST", body }));
    if (!job) return (field("go").hidden = false);
    const how = await follow(job.id, field("fitted"));
    if (how !== "done") return (field("go").hidden = false);
    const link = document.createElement("a");
    link.className = "button main";
    link.id = "to-detector";
    link.href = `/ui/?detector=${encodeURIComponent(kept.detector)}`;
    link.textContent = "Score the first images";
    field("fitted").append(link);
    return link.focus();
  });
}

/** A share of false alarms as the service takes it; null leaves it. */
export function share(text) {
  return text === "" ? null : text === "auto" ? "auto" : Number(text);
}

function leftOut({ images, left_out: left }) {
  const place = field("left-out");
  const box = document.createElement("div");
  box.className = left.length ? "caution" : "note";
  for (const line of [`${images} images are kept.`, ...(left.length ? ["Left out:"] : []), ...left]) {
    const one = document.createElement("p");
    one.textContent = line;
    box.append(one);
  }
  place.replaceChildren(box);
}
