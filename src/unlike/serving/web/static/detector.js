// A detector: its versions side by side, a refit, more good images.

import { ask, attempt, follow, say, send } from "./api.js";
import { filesOf, share } from "./upload.js";

const field = (id) => document.getElementById(id);

/** Start a job by a form, and show it; `then` is what follows where it is done. */
function startsJob(formId, placeId, what, bodyOf, then) {
  const form = field(formId);
  form?.addEventListener("submit", async (event) => {
    event.preventDefault();
    const body = bodyOf(new FormData(form));
    if (!body) return;
    const job = await attempt(() => ask(`/detectors/${form.dataset.detector}/${what}`, { method: "POST", body }));
    if (!job) return;
    const how = await follow(job.id, field(placeId));
    if (how === "done") then?.(job);
    else say(`The job is ${how}.`, true);
  });
}

startsJob("compare", "compare-job", "compare", (data) => {
  const versions = data.getAll("versions").map(Number);
  if (!versions.length) say("Tick the versions to compare.", true);
  return versions.length ? { versions: versions.sort((a, b) => a - b) } : null;
}, () => field("compare-job").scrollIntoView({ block: "center" }));

startsJob("refit", "refit-job", "fit", (data) => ({
  reviewed: data.has("reviewed"),
  uploads: data.getAll("uploads"),
  choices: { preset: data.get("preset") || null, false_alarms: share(data.get("false_alarms")) },
  note: data.get("note").trim(),
}));

field("add-normals")?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const data = filesOf(field("more-folder"), field("more-files"));
  if (!data.has("file")) return say("Choose a folder, a zip or images first.", true);
  field("more-sending").hidden = false;
  const done = await attempt(() => send(`/detectors/${event.target.dataset.detector}/normals`, data, (sent) => (field("more-sent").value = sent)));
  field("more-sending").hidden = true;
  if (done) location.reload();
  return undefined;
});
