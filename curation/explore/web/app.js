// The explorer: reads the view from the address, asks the server, shows grid, map and board.
import * as board from "./board.js";
import * as detail from "./detail.js";
import { $, brief, el } from "./dom.js";
import * as facets from "./facets.js";
import * as grid from "./grid.js";
import * as keys from "./keys.js";
import { FaceMap } from "./map.js";
import { ask, dropPictures, query } from "./net.js";
import * as saving from "./saving.js";
import { begin, clear, picked, read, state, write } from "./state.js";

const BOARD = "board";
let about = null, map = null, asking = null;
// Key, what it does, how, and whether it works in an open face, too.
const KEYS = [
  ["/", "search", () => $("#q").focus()],
  ["g", "grid", () => mode("grid")],
  ["m", "map", () => mode("map")],
  ["b", "board", () => mode(BOARD)],
  ["f", "filters", () => filters()],
  ["s", "more like this face", () => similar(grid.chosen()), true],
  ["x", "pick this face, or pick it no more", () => grid.pick(grid.chosen()), true],
  ["u", "pick none", () => { picked.clear(); grid.marks(); }],
  ["o", "next layer of the open face", () => detail.next(1), true],
  ["O", "layer before", () => detail.next(-1), true],
  ["e", "export", () => saving.exporting()],
  ["v", "saved views", () => saving.views()],
  ["r", "random order", () => { state.sort = "random"; state.seed = Math.floor(Math.random() * 1e6); change(); }],
  ["c", "clear everything", () => { clear(); change(); }],
  ["?", "these keys", () => $("#help").showModal(), true],
];

function trouble(error) {
  if (error.name === "AbortError") return;
  $("#status").textContent = error.message;
  $("#status").classList.add("trouble");
}

// Everything that is shown follows from the view; `change` is called after each change of it.
async function change(keep = false) {
  if (!keep) write();
  controls();
  asking?.abort();
  dropPictures();
  asking = new AbortController();
  const { signal } = asking;
  busy(true);
  try {
    await grid.load(signal);
    busy(false);
    facets.refresh(change).catch(trouble);
    if (state.mode === "map") await showMap();
    if (state.mode === BOARD) await board.show({ open: openFace, change, trouble });
    if (state.face && detail.current()?.told.face.id !== state.face[1]) {
      const { i } = await ask(`/api/find?${query({ part: state.face[0], face: state.face[1] })}`);
      await detail.open(i);
    }
    document.body.dataset.ready = String(Number(document.body.dataset.ready ?? 0) + 1);
  } catch (error) {
    if (error.name !== "AbortError") busy(false); // else the next search goes on
    trouble(error);
  }
}

// Faces that are on their way out fade, but only where the answer takes its time.
function busy(on) {
  $("#stage").setAttribute("aria-busy", String(on));
}

async function openFace(i) {
  await detail.open(i);
  const { face } = detail.current().told;
  state.face = [face.part, face.id];
  write(true);
}

function step(by) {
  const at = grid.faces.findIndex((f) => f.i === detail.current()?.i) + by;
  if (grid.faces[at]) openFace(grid.faces[at].i).catch(trouble);
}

function similar(face) {
  if (!face) return;
  if (!about.encoder) { trouble(new Error(about.notes[0])); return; }
  if ($("#detail").open) detail.close();
  Object.assign(state, { like: [face.part, face.id], image: "", sort: "", mode: "grid", face: null });
  change();
}

function mode(name) {
  state.mode = name;
  change();
}

function controls() {
  for (const button of document.querySelectorAll("[data-mode]")) button.setAttribute("aria-pressed", String(button.dataset.mode === state.mode));
  $("#grid").hidden = $("#more").hidden = state.mode !== "grid";
  $("#map").hidden = state.mode !== "map";
  $("#board").hidden = state.mode !== BOARD;
  $("#q").value = state.q;
  $("#where").value = state.where;
  $("#sort").value = state.sort;
  $("#down").setAttribute("aria-pressed", String(state.down));
  $("#down").textContent = state.down ? "Largest first" : "Smallest first";
  $("#down").hidden = !state.sort || state.sort === "random";
  $("#chips").replaceChildren(...chips());
}

// What is looked for, each with a way to take it back.
function chips() {
  const found = [];
  const add = (text, drop) => found.push(el("li", {}, el("button", { type: "button", title: text, "aria-label": `take away ${text}`,
    onclick: () => { drop(); change(); } }, el("span", {}, text), " ×")));
  if (state.q) add(state.q, () => { state.q = ""; });
  if (state.like) add(`like ${state.like[1]}`, () => { state.like = null; });
  if (state.image) add("like the picture", () => { state.image = ""; });
  if (state.where) add(state.where, () => { state.where = ""; });
  if (state.lasso) add("inside the lasso", () => { state.lasso = null; if (map) map.loop = null; });
  for (const [name, values] of Object.entries(state.f)) add(`${name}: ${values.join(", ")}`.replaceAll("_", " "), () => { delete state.f[name]; });
  for (const [name, [a, b]] of Object.entries(state.r)) add(`${name}: ${brief(a)} to ${brief(b)}`.replaceAll("_", " "), () => { delete state.r[name]; });
  return found;
}

async function showMap() {
  if (!map) {
    map = new FaceMap($("#plane"), {
      open: (i) => openFace(i).catch(trouble),
      lasso: (points) => { state.lasso = { x: state.x, y: state.y, points }; lassoing(false); change(); },
    });
    map.facets = about.facets;
    window.sfhqMap = map;
  }
  $("#map-x").value = state.x;
  $("#map-y").value = state.y;
  $("#map-colour").value = state.colour;
  await map.load(state.x, state.y);
  map.loop = state.lasso && state.lasso.x === state.x && state.lasso.y === state.y ? state.lasso.points.map(([x, y]) => [x, 1 - y]) : null;
  await map.show();
  map.resize();
  $("#legend").replaceChildren(...map.legend());
}

function lassoing(on) {
  map.lassoing = on;
  $("#lasso").setAttribute("aria-pressed", String(on));
}

function filters() {
  const open = $("#facets").classList.toggle("open");
  $("#filters-button").setAttribute("aria-expanded", String(open));
}

function options(select, rows) {
  select.replaceChildren(...rows.map(([value, text]) => el("option", { value }, text)));
}

async function start() {
  about = await ask("/api/about");
  $("#parts").textContent = about.parts.join(" + ");
  $("#how").textContent = [about.words, ...(about.encoder ? about.notes : [])].join(" ");
  const plainly = (n) => [n, n.replaceAll("_", " ")];
  const numbers = about.numbers.map(plainly);
  options($("#sort"), [["", "best or first"], ["random", "random"], ...numbers, ["source", "source"]]);
  const plane = about.encoder ? [["", "embedding"]] : [];
  options($("#map-x"), [...plane, ...numbers]);
  options($("#map-y"), [...plane, ...numbers]);
  options($("#map-colour"), [["", "one colour"], ...about.facets.filter((f) => f.kind !== "tags").map((f) => plainly(f.name))]);
  options($("#board-column"), about.facets.map((f) => plainly(f.name)));
  const names = about.facets.map((f) => f.name);
  begin({ column: ["hair_colour", "years", "smile"].find((n) => names.includes(n)) ?? names[0] ?? "" });
  if (!about.encoder) begin({ x: about.numbers[0] ?? "", y: about.numbers[1] ?? about.numbers[0] ?? "" });
  facets.build(about.facets, change);
  grid.prepare({ open: openFace, trouble, all: () => about.total });
  detail.prepare({ step, similar, pick: grid.pick, open: (i) => openFace(i).catch(trouble), trouble });
  saving.prepare({ change, trouble, parts: about.new_parts });
  listen();
  arrive();
}

// The address says what to show.
function arrive() {
  try {
    read();
  } catch (error) {
    trouble(error);
    return;
  }
  if (!state.face && $("#detail").open) detail.close();
  change(true);
}

function listen() {
  $("#search").addEventListener("submit", (event) => { event.preventDefault(); state.q = $("#q").value.trim(); state.sort = ""; change(); $("#q").blur(); });
  $("#q").addEventListener("search", () => { if (!$("#q").value && state.q) { state.q = ""; change(); } });
  $("#where-form").addEventListener("submit", (event) => { event.preventDefault(); state.where = $("#where").value.trim(); change(); });
  for (const button of document.querySelectorAll("[data-mode]")) button.addEventListener("click", () => mode(button.dataset.mode));
  $("#sort").addEventListener("change", (event) => { state.sort = event.target.value; change(); });
  $("#down").addEventListener("click", () => { state.down = !state.down; change(); });
  const axis = (name) => (event) => {
    state[name] = event.target.value;
    const other = name === "x" ? "y" : "x";
    if (!state[name] !== !state[other]) state[other] = state[name] ? about.numbers.find((n) => n !== state[name]) ?? state[name] : "";
    change();
  };
  $("#map-x").addEventListener("change", axis("x"));
  $("#map-y").addEventListener("change", axis("y"));
  $("#map-colour").addEventListener("change", (event) => { state.colour = event.target.value; change(); });
  $("#lasso").addEventListener("click", () => lassoing(!map.lassoing));
  $("#whole").addEventListener("click", () => { map.home(); map.draw(); });
  $("#board-column").addEventListener("change", (event) => { state.column = event.target.value; change(); });
  $("#more-button").addEventListener("click", grid.moreFaces);
  new IntersectionObserver((seen) => { if (seen.some((s) => s.isIntersecting)) grid.moreFaces(); }, { root: $("#stage"), rootMargin: "600px" }).observe($("#more"));
  $("#filters-button").addEventListener("click", filters);
  $("#help-button").addEventListener("click", () => $("#help").showModal());
  for (const button of document.querySelectorAll("[data-close]")) button.addEventListener("click", () => button.closest("dialog").close());
  $("#detail").addEventListener("close", () => { detail.closed(); state.face = null; write(true); });
  addEventListener("popstate", arrive);
  keys.listen(KEYS, step);
}

start().catch(trouble);
window.sfhq = { state, picked, change };
