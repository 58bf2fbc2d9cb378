// Filters: every useful column with its values and counts, or a histogram to drag a range on.
import { $, brief, el, svg } from "./dom.js";
import { ask, query } from "./net.js";
import { state, view } from "./state.js";

const FIRST = ["alive", "rejected_by", "part", "years", "male", "hair_colour", "quality", "glasses"];
const SHORT = 12;
const opened = new Set(FIRST);
const boxes = new Map();
const whole = new Set();
let asked = 0;

export function build(facets, change) {
  const rank = (f) => (FIRST.includes(f.name) ? FIRST.indexOf(f.name) : 100);
  const order = [...facets].sort((a, b) => rank(a) - rank(b));
  $("#columns").replaceChildren(...order.map((facet) => {
    const body = el("div", { class: "facet" });
    const box = el("details", { "data-column": facet.name, open: opened.has(facet.name) },
      el("summary", {}, facet.name.replaceAll("_", " ")), body);
    box.addEventListener("toggle", () => {
      if (box.open === opened.has(facet.name)) return;
      if (box.open) opened.add(facet.name);
      else opened.delete(facet.name);
      if (box.open) refresh(change).catch(() => {});
    });
    boxes.set(facet.name, body);
    return box;
  }));
  $("#find-column").addEventListener("input", (event) => {
    const word = event.target.value.trim().toLowerCase().replaceAll(" ", "_");
    for (const box of $("#columns").children) box.hidden = !box.dataset.column.includes(word);
  });
}

export async function refresh(change) {
  const columns = [...opened].filter((c) => boxes.has(c));
  if (!columns.length) return;
  const mine = ++asked;
  const found = await ask(`/api/facets?${query({ view: view(), columns: columns.join(",") })}`);
  if (mine !== asked) return;
  for (const facet of found) {
    const parts = facet.kind === "number" ? histogram(facet, change) : values(facet, change);
    const held = document.activeElement?.dataset?.key;
    if (inside(boxes.get(facet.name))) { keepFields(boxes.get(facet.name), parts); continue; }
    boxes.get(facet.name).replaceChildren(...parts);
    if (held) boxes.get(facet.name).querySelector(`[data-key="${CSS.escape(held)}"]`)?.focus();
  }
}

const inside = (box) => box.contains(document.activeElement) && document.activeElement.type === "number";

// The fields of a range stay where somebody is in one: a new one would lose what is typed.
function keepFields(box, [plot, range]) {
  box.firstElementChild.replaceWith(plot);
  for (const fresh of range.querySelectorAll("input")) {
    const old = box.querySelector(`[data-key="${CSS.escape(fresh.dataset.key)}"]`);
    const typing = old === document.activeElement && old.value !== old.defaultValue;
    if (!typing && old.value !== fresh.value) old.value = fresh.value;
    if (!typing) old.defaultValue = fresh.value;
  }
}

function values(facet, change) {
  const chosen = state.f[facet.name] ?? [];
  const rows = facet.values.map((value, k) => ({ value, count: facet.counts[k] }))
    .sort((a, b) => b.count - a.count);
  const shown = whole.has(facet.name) ? rows
    : rows.filter((r, k) => k < SHORT || chosen.includes(r.value));
  const most = Math.max(1, ...rows.map((r) => r.count));
  const made = shown.map(({ value, count }) => {
    const key = `${facet.name}=${value}`;
    const box = el("input", { type: "checkbox", "data-key": key });
    box.checked = chosen.includes(value);
    box.addEventListener("change", () => {
      const now = box.checked ? [...chosen, value] : chosen.filter((v) => v !== value);
      if (now.length) state.f = { ...state.f, [facet.name]: now };
      else delete state.f[facet.name];
      change();
    });
    const bar = el("meter", { max: most, value: count, "aria-hidden": "true" });
    return el("label", { class: count ? "value" : "value none" }, box,
      el("span", {}, value.replaceAll("_", " ")), bar, el("span", { class: "count" }, count.toLocaleString("en")));
  });
  if (rows.length > shown.length) {
    made.push(el("button", { type: "button", class: "link", onclick: () => {
      whole.add(facet.name);
      refresh(change).catch(() => {});
    } }, `all ${rows.length}`));
  }
  return made;
}

function histogram(facet, change) {
  const { low, high, counts, name } = facet;
  const range = state.r[name] ?? [low, high];
  const most = Math.max(1, ...counts), n = counts.length, step = (high - low) / n;
  const plot = svg("svg", { viewBox: `0 0 ${n * 5} 44`, preserveAspectRatio: "none", "aria-hidden": "true" });
  counts.forEach((count, k) => {
    const tall = count ? Math.max(1.5, (40 * count) / most) : 0;
    const inside = low + (k + 1) * step > range[0] && low + k * step < range[1];
    plot.append(svg("rect", { x: k * 5, y: 42 - tall, width: 4.4, height: tall, class: inside ? "in" : "out" }));
  });
  const set = (a, b) => {
    if (a <= low && b >= high) delete state.r[name];
    else state.r = { ...state.r, [name]: [Math.min(a, b), Math.max(a, b)] };
    change();
  };
  const at = (event) => {
    const box = plot.getBoundingClientRect();
    const share = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
    return low + share * (high - low);
  };
  let from = null;
  plot.addEventListener("pointerdown", (event) => {
    from = at(event);
    plot.setPointerCapture(event.pointerId);
  });
  plot.addEventListener("pointerup", (event) => {
    if (from === null) return;
    const to = at(event);
    const start = from;
    from = null;
    if (Math.abs(to - start) < step / 2) set(low, high);
    else set(start, to);
  });
  const field = (word, value, k) => {
    const box = el("input", { type: "number", step: "any", value: brief(value), "aria-label": `${name}, ${word}`, "data-key": `${name}-${k}` });
    box.addEventListener("change", () => {
      const now = [...(state.r[name] ?? [low, high])];
      box.defaultValue = box.value; // it counts now: a refresh may replace it
      if (box.value === "") now[k] = [low, high][k];
      else now[k] = Number(box.value);
      set(...now);
    });
    return box;
  };
  return [plot, el("div", { class: "range" }, field("from", range[0], 0), el("span", {}, "to"), field("to", range[1], 1))];
}
