// What is looked for and how: one object, which the address of the page holds.

const START = { mode: "grid", q: "", f: {}, r: {}, where: "", like: null, image: "", lasso: null,
  sort: "", down: true, seed: 0, column: "", x: "", y: "", colour: "", face: null };
const OF_VIEW = ["q", "f", "r", "where", "like", "image", "lasso", "sort", "down", "seed"];

export const state = { ...START };
// What a view of these parts begins with; an address names only what differs from it.
export const begin = (values) => Object.assign(START, values);
export const picked = new Set();

// The server's view: only what differs from the start, so that equal views have equal names.
export function view(base = state) {
  return Object.fromEntries(OF_VIEW.filter((k) => JSON.stringify(base[k]) !== JSON.stringify(START[k]))
    .map((k) => [k, base[k]]));
}

export function address() {
  const changed = Object.keys(START).filter((k) => JSON.stringify(state[k]) !== JSON.stringify(START[k]));
  const told = Object.fromEntries(changed.map((k) => [k, state[k]]));
  return changed.length ? `#view=${encodeURIComponent(JSON.stringify(told))}` : "#";
}

export function read() {
  Object.assign(state, structuredClone(START));
  const text = new URLSearchParams(location.hash.slice(1)).get("view");
  if (!text) return;
  try {
    const told = JSON.parse(text);
    for (const key of Object.keys(START)) if (key in told) state[key] = told[key];
  } catch {
    throw new Error("the address holds no view that can be read");
  }
}

export function write(replace = false) {
  const to = `${location.pathname}${address()}`;
  if (replace) history.replaceState(null, "", to);
  else if ((location.hash || "#") !== address()) history.pushState(null, "", to);
}

export const clear = () => Object.assign(state, structuredClone({ ...START, mode: state.mode }));
