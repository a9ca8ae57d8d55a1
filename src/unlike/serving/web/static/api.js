// What the page asks of the service, and what it says to people.

const csrf = () => document.querySelector('meta[name="csrf"]')?.content;

export class Refusal extends Error {}

/** Ask for something by REST; the answer as JSON, or a Refusal that says in a sentence why not. */
export async function ask(path, { method = "GET", body } = {}) {
  const headers = { Accept: "application/json" };
  if (csrf()) headers["X-CSRF-Token"] = csrf();
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw new Refusal("The service does not answer. Is it running?");
  }
  const text = await answer.text();
  let found;
  try {
    found = text ? JSON.parse(text) : {};
  } catch {
    found = { detail: text.slice(0, 200) };
  }
  if (answer.status === 401 && path !== "/login") location.assign(`/ui/login?after=${encodeURIComponent(location.pathname + location.search)}`);
  if (!answer.ok) throw new Refusal(sentence(found.detail, answer.status));
  return found;
}

/** A part of a page, as elements; null where there is nothing new to show. */
export async function part(path) {
  const answer = await fetch(path, { headers: { Accept: "text/html" } });
  if (answer.redirected) return location.reload();
  if (!answer.ok) throw new Refusal(`The service answered ${answer.status}.`);
  const holder = document.createElement("template");
  holder.innerHTML = await answer.text(); // rendered and escaped by the service
  return holder.content;
}

/** Send files; `told` hears the share that is sent. */
export function send(path, form, told = () => {}) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", path);
    if (csrf()) request.setRequestHeader("X-CSRF-Token", csrf());
    request.upload.addEventListener("progress", (event) => event.lengthComputable && told(event.loaded / event.total));
    request.addEventListener("error", () => reject(new Refusal("The service does not answer. Is it running?")));
    request.addEventListener("load", () => {
      let found = {};
      try {
        found = JSON.parse(request.responseText);
      } catch {
        found = { detail: request.responseText.slice(0, 200) };
      }
      if (request.status < 300) resolve(found);
      else reject(new Refusal(sentence(found.detail, request.status)));
    });
    request.send(form);
  });
}

/** Say something at the bottom of the page, for a while. */
export function say(text, bad = false) {
  const place = document.getElementById("said");
  place.textContent = text;
  place.classList.toggle("bad", bad);
  clearTimeout(say.timer);
  say.timer = setTimeout(() => (place.textContent = ""), bad ? 9000 : 4000);
}

/** Do something, and say why where it is refused. */
export async function attempt(work) {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    say(error.message, true);
    return undefined;
  }
}

/** Whether somebody is sure. */
export function sure(text) {
  const dialog = document.getElementById("sure");
  document.getElementById("sure-text").textContent = text;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    document.getElementById("sure-yes").onclick = () => dialog.close("yes");
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

/** Times of the page in the viewer's own zone and language. */
export function tellTimes(root = document) {
  for (const one of root.querySelectorAll("time[datetime]")) {
    const at = new Date(one.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    const today = at.toDateString() === new Date().toDateString();
    one.textContent = today ? at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }) : at.toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
    one.title = one.dateTime;
  }
}

/** Show a job in a place until it has ended; resolves to how it ended. */
export async function follow(id, place) {
  for (;;) {
    let shown;
    try {
      shown = await part(`/ui/jobs/${id}?part=true`);
    } catch {
      shown = null; // the service may be starting again; the job is still there
    }
    const job = shown?.querySelector(".job");
    if (job) {
      const bar = place.querySelector("progress");
      const fresh = shown.querySelector("progress");
      if (bar && fresh && job.dataset.ended === "no") {
        bar.value = fresh.value;
        place.querySelector("p span:not(.badge)").textContent = shown.querySelector("p span:not(.badge)").textContent;
      } else {
        place.replaceChildren(shown);
        tellTimes(place);
      }
      if (job.dataset.ended === "yes") return job.dataset.outcome;
    }
    await new Promise((resolve) => setTimeout(resolve, 700));
  }
}

function sentence(detail, status) {
  if (typeof detail === "string" && detail) return detail;
  if (Array.isArray(detail) && detail[0]?.msg) return `${detail[0].loc?.at(-1) ?? ""}: ${detail[0].msg}`;
  return `The service answered ${status}.`;
}
