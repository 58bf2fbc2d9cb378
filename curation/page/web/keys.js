// Which key does what: the keys of three other tools at once, and those the person chose.

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

const STORE = "sfhq-keys";

function own() {
  try {
    return JSON.parse(localStorage.getItem(STORE)) ?? {};
  } catch {
    return {};
  }
}

export function bindings() {
  const chosen = own();
  return Object.fromEntries(
    Object.entries(ACTIONS).map(([name, { keys }]) => [name, chosen[name] ?? keys]),
  );
}

// The action of a key, or undefined.
export function actionOf(key) {
  const wanted = key.length === 1 ? key.toLowerCase() : key;
  for (const [name, keys] of Object.entries(bindings())) {
    if (keys.includes(wanted)) return name;
  }
  return undefined;
}

// Give a key to one action; other actions lose it.
export function bind(name, key) {
  const wanted = key.length === 1 ? key.toLowerCase() : key;
  const chosen = bindings();
  for (const other of Object.keys(chosen)) chosen[other] = chosen[other].filter((k) => k !== wanted);
  chosen[name] = [wanted];
  localStorage.setItem(STORE, JSON.stringify(chosen));
}

export function reset() {
  localStorage.removeItem(STORE);
}

export function nameOf(key) {
  return { " ": "Space", ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓" }[key] ?? key;
}
