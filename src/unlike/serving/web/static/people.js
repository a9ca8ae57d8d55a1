// Roles are changed where they stand; a new token is shown once.

import { ask, attempt, say } from "./api.js";

for (const one of document.querySelectorAll("[data-role]")) {
  one.addEventListener("change", async () => {
    const done = await attempt(() => ask(`/users/${one.dataset.role}`, { method: "PATCH", body: { role: one.value } }));
    if (done) say(`${done.name} is ${done.role} now.`);
    else location.reload();
  });
}

document.getElementById("new-token")?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const body = { name: document.getElementById("token-name").value };
  const user = document.getElementById("token-user")?.value;
  if (user) body.user = user;
  const made = await attempt(() => ask("/tokens", { method: "POST", body }));
  if (!made) return;
  const [words, token] = ["p", "pre"].map((tag) => document.createElement(tag));
  words.textContent = "Copy it now; it is not shown again. A program sends it as Authorization: Bearer TOKEN.";
  token.textContent = made.token;
  token.tabIndex = 0;
  document.getElementById("made-token").replaceChildren(words, token);
});
