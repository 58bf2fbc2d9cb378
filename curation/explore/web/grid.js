// The grid: pages of tiles, the focus that moves over them, and which faces are picked.
import * as detail from "./detail.js";
import { $, brief, el, many } from "./dom.js";
import { ask, query, small } from "./net.js";
import { picked, view } from "./state.js";

const PAGE = 60, MOST_TILES = 3000;
export const faces = [];
let hooks = {}, found = { total: 0, of: 0, ranked: false }, first = 0, last = -1, loading = false, turn = 0;

// `open` shows a face, `trouble` an error; `all` says how many faces there are.
export const prepare = (given) => { hooks = given; };
export const count = () => found.total;

export function told() {
  const { total, of } = found, all = hooks.all();
  let text = total === all ? many(total, "face") : `${total.toLocaleString("en")} of ${many(all, "face")}`;
  if (of > total) text = `the ${total.toLocaleString("en")} nearest of ${many(of, "face")}`;
  $("#status").textContent = picked.size ? `${text}, ${picked.size.toLocaleString("en")} picked` : text;
  $("#status").classList.remove("trouble");
}

export async function load(signal, more = false) {
  if (!more) first = 0;
  else if (faces.length >= MOST_TILES) { first += faces.length; more = false; }
  const offset = first + (more ? faces.length : 0), mine = more ? turn : ++turn;
  const next = await ask(`/api/faces?${query({ view: view(), offset, limit: PAGE })}`, signal);
  if (mine !== turn) return; // more of a view that has changed meanwhile
  found = next;
  if (!more) { faces.length = 0; $("#grid").replaceChildren(); last = -1; $("#stage").scrollTop = 0; }
  const at = faces.length;
  faces.push(...next.faces);
  $("#grid").append(...next.faces.map((face, k) => tile(face, at + k)));
  if (!found.total) $("#grid").append(el("p", { class: "empty" }, "No face is like that. Take a filter away, or press ", el("kbd", {}, "c"), "."));
  $("#more-button").hidden = first + faces.length >= found.total;
  told();
}

function tile(face, place) {
  const image = el("img", { alt: detail.alt(face), width: 160, height: 160 });
  const lost = () => image.replaceWith(el("span", { class: "lost" }, "the file is missing or was changed"));
  small(face.i).then((url) => { if (url) image.src = url; else lost(); }, hooks.trouble);
  const value = face.value === null || face.value === undefined ? "" : brief(face.value);
  const made = el("button", { type: "button", class: face.alive ? "tile" : "tile dead", "data-place": place, "data-i": face.i,
    tabindex: place === 0 ? 0 : -1, title: face.alive ? face.id : `${face.id}, refused: ${face.reason}`,
    "aria-pressed": picked.has(face.i) }, image, value ? el("span", { class: "badge" }, value) : null);
  made.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey) pick(face);
    else if (event.shiftKey && last >= 0) range(last, place);
    else hooks.open(face.i).catch(hooks.trouble);
    last = place;
  });
  return made;
}

export const columns = () => getComputedStyle($("#grid")).gridTemplateColumns.split(" ").length;
export const focused = () => {
  const here = document.activeElement?.closest?.(".tile");
  return here ? Number(here.dataset.place) : -1;
};
export const chosen = () => detail.current()?.told.face ?? faces[focused()];

export function focus(place) {
  const tiles = document.querySelectorAll("#grid .tile");
  const to = tiles[Math.max(0, Math.min(place, tiles.length - 1))];
  if (!to) return;
  tiles.forEach((t) => { t.tabIndex = -1; });
  to.tabIndex = 0;
  to.focus();
  if (place >= tiles.length - 2 * columns()) moreFaces();
}

export async function moreFaces() {
  if (loading || $("#more-button").hidden) return;
  loading = true;
  await load(undefined, true).catch(hooks.trouble);
  loading = false;
}

export function pick(face) {
  if (!face) return;
  if (!picked.delete(face.i)) picked.add(face.i);
  marks();
}

function range(from, to) {
  for (let k = Math.min(from, to); k <= Math.max(from, to); k++) picked.add(faces[k].i);
  marks();
}

export function marks() {
  for (const one of document.querySelectorAll(".tile")) one.setAttribute("aria-pressed", String(picked.has(Number(one.dataset.i))));
  detail.mark();
  told();
}
