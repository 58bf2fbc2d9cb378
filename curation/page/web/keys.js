// Which key does what: the keys of three other tools at once, and those the person chose.

import { ask } from "/web/net.js";

export const ACTIONS = {
  keep: { label: "Keep", keys: ["3", "a", "p"] },
  reject: { label: "Reject", keys: ["1", "x"] },
  skip: { label: "Skip", keys: ["2", " "] },
  flag: { label: "Flag to look at again", keys: ["f"] },
  undo: { label: "Undo", keys: ["Backspace", "u", "Delete"] },
  train: { label: "Train now", keys: ["t"] },
  single: { label: "Single view", keys: ["e"] },
  grid: { label: "Grid", keys: ["g"] },
  review: { label: "Review conflicts", keys: ["v"] },
  commit: { label: "Grid: submit the page", keys: ["Enter"] },
  left: { label: "Move left", keys: ["ArrowLeft"] },
  right: { label: "Move right", keys: ["ArrowRight"] },
  up: { label: "Move up", keys: ["ArrowUp"] },
  down: { label: "Move down", keys: ["ArrowDown"] },
  fewer: { label: "Grid: fewer columns", keys: ["-"] },
  more: { label: "Grid: more columns", keys: ["+", "="] },
  zoom: { label: "Zoom to full size", keys: ["z"] },
  overlay: { label: "Landmarks and mask", keys: ["l"] },
  help: { label: "This list", keys: ["?", "h"] },
};

// The part keeps everybody's own keys, so that they are the same on every port and in every
// browser. Until the server has them, this browser does.
let who = "";
let chosen = {};
const store = () => `sfhq-keys-${who}`;

// The keys of a person, as the server keeps them; keys that it did not get yet are sent to it.
export function start(name, keys) {
  who = name;
  chosen = keys ?? {};
  try {
    const unsent = JSON.parse(localStorage.getItem(store()));
    if (unsent) {
      chosen = unsent;
      send();
    }
  } catch {
    localStorage.removeItem(store());
  }
}

function change(keys) {
  chosen = keys;
  localStorage.setItem(store(), JSON.stringify(keys));
  send();
}

async function send() {
  const keys = chosen;
  try {
    await ask("/api/keys", { annotator: who, keys });
  } catch (problem) {
    if (problem.status !== 400) {
      setTimeout(() => { if (keys === chosen) send(); }, 2000);
      return;
    }
  }
  if (keys === chosen) localStorage.removeItem(store());
}

export function bindings() {
  return Object.fromEntries(
    Object.entries(ACTIONS).map(([name, { keys }]) => [name, chosen[name] ?? keys]),
  );
}

const plain = (key) => (key.length === 1 ? key.toLowerCase() : key);

// Keys of other scripts, and those that an input method swallows. There the place of the key
// says which one it is; on Latin layouts (AZERTY, Dvorak) the letter on it always does.
function elsewhere(key) {
  if (key === "Process" || key === "Unidentified") return true;
  return key.codePointAt(0) > 0x7f && /^[\p{L}\p{M}\p{N}]/u.test(key) && !/^\p{Script=Latin}/u.test(key);
}

// The action of a key that was pressed, or undefined.
export function actionOf({ key, code }) {
  const named = Object.entries(bindings());
  const find = (wanted) => named.find(([, keys]) => keys.includes(wanted))?.[0];
  const found = find(plain(key));
  const place = /^(?:Key([A-Z])|(?:Digit|Numpad)([0-9]))$/.exec(code ?? "");
  if (found || !place || !elsewhere(key)) return found;
  return find((place[1] ?? place[2]).toLowerCase());
}

const NO_KEYS = ["Shift", "Control", "Alt", "AltGraph", "Meta", "CapsLock", "Dead", "Process", "Unidentified"];

// Whether a key can be given to an action: it is no modifier and no half of a letter.
export const usable = (key) => !NO_KEYS.includes(key);

// Give a key to one action; other actions lose it.
export function bind(name, key) {
  const wanted = plain(key);
  const keys = bindings();
  for (const other of Object.keys(keys)) keys[other] = keys[other].filter((k) => k !== wanted);
  keys[name] = [wanted];
  change(keys);
}

export function reset() {
  change({});
}

export function nameOf(key) {
  return { " ": "Space", ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓" }[key] ?? key;
}
