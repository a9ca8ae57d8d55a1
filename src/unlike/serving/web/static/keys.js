// Keys that do things, and the list of them. They can be turned off, for those who speak to their device.

const known = [];
const SWITCH = "unlike-keys";

/** Have a key do something; it stands in the list of keys. */
export function key(name, text, act) {
  known.push({ name, text, act });
}

const isOn = () => localStorage.getItem(SWITCH) !== "off";

function isWriting(target) {
  return target.closest("textarea, select, [contenteditable], input:not([type=checkbox]):not([type=button])") !== null;
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (event.key === "Escape" && isWriting(event.target)) return event.target.blur();
  if (!isOn() || isWriting(event.target) || document.querySelector("dialog[open]")) return;
  const found = known.find((one) => one.name === event.key);
  if (!found) return;
  event.preventDefault();
  found.act(event);
});

const dialog = document.getElementById("keys");

function showKeys() {
  const list = document.getElementById("keys-list");
  list.replaceChildren(
    ...known.flatMap(({ name, text }) => {
      const [term, meaning, cap] = ["dt", "dd", "kbd"].map((tag) => document.createElement(tag));
      cap.textContent = { ArrowLeft: "←", ArrowRight: "→" }[name] ?? name;
      term.append(cap);
      meaning.textContent = text;
      return [term, meaning];
    }),
  );
  dialog.showModal();
}

const box = document.getElementById("keys-on");
box.checked = isOn();
box.addEventListener("change", () => localStorage.setItem(SWITCH, box.checked ? "on" : "off"));
document.getElementById("show-keys")?.addEventListener("click", showKeys);
if (document.getElementById("show-keys")) {
  key("?", "show the keys", showKeys);
  key("i", "list of images", () => location.assign("/ui/"));
  key("d", "detectors", () => location.assign("/ui/detectors"));
}
