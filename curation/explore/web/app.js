// The explorer: reads the view from the address, asks the server, shows grid, map and board.
import * as detail from "./detail.js";
import { $, brief, el, many } from "./dom.js";
import * as facets from "./facets.js";
import { FaceMap } from "./map.js";
import { ask, place, query, send, small } from "./net.js";
import { address, clear, picked, read, state, view, write } from "./state.js";

const PAGE = 60, MOST_TILES = 3000, BOARD = "board";
let about = null, map = null, total = 0, first = 0, asking = null, last = -1;
const faces = [];
const KEYS = [
  ["/", "search", () => $("#q").focus()],
  ["g", "grid", () => mode("grid")],
  ["m", "map", () => mode("map")],
  ["b", "board", () => mode(BOARD)],
  ["f", "filters", () => filters()],
  ["s", "more like this face", () => similar(chosen())],
  ["x", "pick this face", () => pick(chosen())],
  ["u", "pick none", () => { picked.clear(); marks(); }],
  ["o", "next layer of the open face", () => detail.next(1)],
  ["O", "layer before", () => detail.next(-1)],
  ["e", "export", () => exporting()],
  ["v", "saved views", () => views()],
  ["r", "random order", () => { state.sort = "random"; state.seed = Math.floor(Math.random() * 1e6); change(); }],
  ["c", "clear everything", () => { clear(); change(); }],
  ["?", "these keys", () => $("#help").showModal()],
];

function trouble(error) {
  if (error.name === "AbortError") return;
  $("#status").textContent = error.message;
  $("#status").classList.add("trouble");
}

const told = () => {
  const all = total === about.total ? many(total, "face") : `${total.toLocaleString("en")} of ${many(about.total, "face")}`;
  $("#status").textContent = picked.size ? `${all}, ${picked.size} picked` : all;
  $("#status").classList.remove("trouble");
};

// Everything that is shown follows from the view; `change` is called after each change of it.
async function change(keep = false) {
  if (!keep) write();
  controls();
  asking?.abort();
  asking = new AbortController();
  const { signal } = asking;
  try {
    first = 0;
    await load(signal);
    facets.refresh(change).catch(trouble);
    if (state.mode === "map") await showMap();
    if (state.mode === BOARD) await showBoard();
    if (state.face && detail.current()?.told.face.id !== state.face[1]) {
      const { i } = await ask(`/api/find?${query({ part: state.face[0], face: state.face[1] })}`);
      await detail.open(i);
    }
    document.body.dataset.ready = String(Number(document.body.dataset.ready ?? 0) + 1);
  } catch (error) {
    trouble(error);
  }
}

async function load(signal, more = false) {
  if (more && faces.length >= MOST_TILES) { first += faces.length; more = false; }
  const offset = first + (more ? faces.length : 0);
  const found = await ask(`/api/faces?${query({ view: view(), offset, limit: PAGE })}`, signal);
  total = found.total;
  if (!more) { faces.length = 0; $("#grid").replaceChildren(); last = -1; $("#stage").scrollTop = 0; }
  const at = faces.length;
  faces.push(...found.faces);
  $("#grid").append(...found.faces.map((face, k) => tile(face, at + k)));
  if (!total) $("#grid").append(el("p", { class: "faint" }, "No face is like that. Take a filter away, or press c."));
  $("#more-button").hidden = first + faces.length >= total;
  told();
}

function tile(face, place) {
  const image = el("img", { alt: detail.alt(face), loading: "lazy", width: 160, height: 160 });
  small(face.i).then((url) => { if (url) image.src = url; else image.replaceWith(el("span", { class: "lost" }, "the file is missing or was changed")); }, trouble);
  const value = face.value === null || face.value === undefined ? "" : brief(face.value);
  const made = el("button", { type: "button", class: face.alive ? "tile" : "tile dead", "data-place": place, "data-i": face.i,
    tabindex: place === 0 ? 0 : -1, title: face.id, "aria-pressed": picked.has(face.i) }, image,
  value ? el("span", { class: "badge" }, value) : null);
  made.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey) pick(face);
    else if (event.shiftKey && last >= 0) range(last, place);
    else openFace(face.i).catch(trouble);
    last = place;
  });
  return made;
}

const focused = () => {
  const here = document.activeElement?.closest?.(".tile");
  return here ? Number(here.dataset.place) : -1;
};
const chosen = () => detail.current()?.told.face ?? faces[focused()];

function focus(place) {
  const tiles = document.querySelectorAll("#grid .tile");
  const to = tiles[Math.max(0, Math.min(place, tiles.length - 1))];
  if (!to) return;
  tiles.forEach((t) => { t.tabIndex = -1; });
  to.tabIndex = 0;
  to.focus();
  if (place >= tiles.length - 2 * columns()) moreFaces();
}

const columns = () => getComputedStyle($("#grid")).gridTemplateColumns.split(" ").length;
let loading = false;
async function moreFaces() {
  if (loading || $("#more-button").hidden) return;
  loading = true;
  await load(undefined, true).catch(trouble);
  loading = false;
}

function pick(face) {
  if (!face) return;
  if (!picked.delete(face.i)) picked.add(face.i);
  marks();
}

function range(from, to) {
  for (let k = Math.min(from, to); k <= Math.max(from, to); k++) picked.add(faces[k].i);
  marks();
}

function marks() {
  for (const one of document.querySelectorAll(".tile")) one.setAttribute("aria-pressed", String(picked.has(Number(one.dataset.i))));
  told();
}

async function openFace(i) {
  await detail.open(i);
  const { face } = detail.current().told;
  state.face = [face.part, face.id];
  write(true);
}

function step(by) {
  const at = faces.findIndex((f) => f.i === detail.current()?.i) + by;
  if (faces[at]) openFace(faces[at].i).catch(trouble);
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
  const chip = (text, drop) => el("li", {}, el("button", { type: "button", "aria-label": `take away ${text}`, onclick: () => { drop(); change(); } }, `${text} ×`));
  const chips = [];
  if (state.q) chips.push(chip(state.q, () => { state.q = ""; }));
  if (state.like) chips.push(chip(`like ${state.like[1]}`, () => { state.like = null; }));
  if (state.image) chips.push(chip("like the picture", () => { state.image = ""; }));
  if (state.where) chips.push(chip(state.where, () => { state.where = ""; }));
  if (state.lasso) chips.push(chip("inside the lasso", () => { state.lasso = null; if (map) map.loop = null; }));
  for (const [name, values] of Object.entries(state.f)) chips.push(chip(`${name}: ${values.join(", ")}`, () => { delete state.f[name]; }));
  for (const [name, [a, b]] of Object.entries(state.r)) chips.push(chip(`${name}: ${brief(a)} to ${brief(b)}`, () => { delete state.r[name]; }));
  $("#chips").replaceChildren(...chips);
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

async function showBoard() {
  $("#board-column").value = state.column;
  const rows = await ask(`/api/board?${query({ view: view(), column: state.column, across: innerWidth < 700 ? 4 : 10 })}`);
  $("#board-rows").replaceChildren(...rows.map((row) => el("section", { class: "row", "aria-label": row.label },
    el("button", { type: "button", class: "label", onclick: () => {
      if (row.range) state.r = { ...state.r, [state.column]: row.range };
      else state.f = { ...state.f, [state.column]: [row.value] };
      state.mode = "grid";
      change();
    } }, el("b", {}, row.label.replaceAll("_", " ")), el("span", {}, row.count.toLocaleString("en"))),
    ...row.faces.map((face) => {
      const image = el("img", { alt: detail.alt(face), width: 120, height: 120 });
      small(face.i).then((url) => { image.src = url; }, trouble);
      return el("button", { type: "button", class: face.alive ? "" : "dead", onclick: () => openFace(face.i).catch(trouble) }, image);
    }))));
}

function filters() {
  const open = $("#facets").classList.toggle("open");
  $("#filters-button").setAttribute("aria-expanded", String(open));
}

function exporting() {
  $("#export-what").textContent = picked.size ? `The ${many(picked.size, "face")} that you picked.` : `All ${many(total, "face")} of this view, in its order.`;
  $("#export").showModal();
}

async function download(kind) {
  const chosen = picked.size ? { picked: [...picked] } : view();
  const answer = await send("/api/export", { view: chosen, kind });
  const link = el("a", { href: URL.createObjectURL(await answer.blob()), download: `faces.${kind === "ids" ? "txt" : kind}` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

const SAVED = `sfhq-explore-views-${place}`;
const saved = () => { try { return JSON.parse(localStorage.getItem(SAVED)) ?? []; } catch { return []; } };
function save() {
  const name = [...document.querySelectorAll("#chips button")].map((b) => b.textContent.replace(" ×", "")).join(", ") || "everything";
  const all = saved().filter((v) => v.to !== address());
  localStorage.setItem(SAVED, JSON.stringify([{ name: `${state.mode}: ${name}`, to: address() }, ...all].slice(0, 100)));
  $("#status").textContent = "View saved; its address is in the address bar.";
}
function views() {
  const all = saved();
  const row = (one) => el("li", {}, el("a", { href: one.to, onclick: () => $("#saved").close() }, one.name), " ",
    el("button", { type: "button", "aria-label": `forget ${one.name}`, onclick: () => {
      localStorage.setItem(SAVED, JSON.stringify(saved().filter((v) => v.to !== one.to)));
      views();
    } }, "×"));
  $("#views").replaceChildren(...(all.length ? all.map(row) : [el("li", {}, "none yet")]));
  if (!$("#saved").open) $("#saved").showModal();
}

// A picture is made small here, so that large photos can be given, too.
async function upload(file) {
  const image = await createImageBitmap(file).catch(() => { throw new Error(`${file.name}: not a picture that can be read; wanted JPEG, PNG or WebP`); });
  const share = Math.min(1, 768 / Math.max(image.width, image.height));
  const canvas = el("canvas");
  canvas.width = Math.max(1, Math.round(image.width * share));
  canvas.height = Math.max(1, Math.round(image.height * share));
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  $("#status").textContent = "Reading the picture…";
  const text = canvas.toDataURL("image/jpeg", 0.92).split(",")[1];
  const answer = await (await send("/api/upload", { image: text })).json();
  Object.assign(state, { image: answer.image, like: null, sort: "", mode: "grid" });
  change();
}

function keys(event) {
  const typing = event.target.closest("input, textarea, select");
  if (event.ctrlKey || event.metaKey || event.altKey || typing) return;
  if (detail.current() && (event.key === "ArrowLeft" || event.key === "ArrowRight")) {
    step(event.key === "ArrowLeft" ? -1 : 1);
    event.preventDefault();
    return;
  }
  const here = focused();
  const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns(), ArrowDown: columns(), Home: -here, End: faces.length - 1 - here };
  if (!detail.current() && event.key in moves && (here >= 0 || event.target === document.body)) {
    focus(here < 0 ? 0 : here + moves[event.key]);
    event.preventDefault();
    return;
  }
  const found = KEYS.find(([key]) => key === event.key);
  if (found && !document.querySelector("dialog:not(#detail)[open]")) {
    event.preventDefault();
    found[2]();
  }
}

function options(select, rows) {
  select.replaceChildren(...rows.map(([value, text]) => el("option", { value }, text)));
}

async function start() {
  about = await ask("/api/about");
  $("#parts").textContent = about.parts.join(" + ");
  $("#how").textContent = [about.words, ...(about.encoder ? about.notes : [])].join(" ");
  const numbers = about.numbers.map((n) => [n, n.replaceAll("_", " ")]);
  options($("#sort"), [["", "best or first"], ["random", "random"], ...numbers, ["source", "source"]]);
  const plain = about.encoder ? [["", "embedding"]] : [];
  options($("#map-x"), [...plain, ...numbers]);
  options($("#map-y"), [...plain, ...numbers]);
  options($("#map-colour"), [["", "one"], ...about.facets.filter((f) => f.kind !== "tags").map((f) => [f.name, f.name.replaceAll("_", " ")])]);
  options($("#board-column"), about.facets.map((f) => [f.name, f.name.replaceAll("_", " ")]));
  $("#keys").replaceChildren(...[...KEYS, ["arrows", "move; in an open face the next one"], ["Enter", "open"], ["Esc", "close"], ["Shift-drag", "lasso on the map"], ["Ctrl-click", "pick"], ["Shift-click", "pick a row of faces"]]
    .map(([key, what]) => el("tr", {}, el("td", {}, el("kbd", {}, key)), el("td", {}, what))));
  facets.build(about.facets, change);
  detail.prepare({ step, similar, open: (i) => openFace(i).catch(trouble), trouble });
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
  const names = about.facets.map((f) => f.name);
  state.column ||= ["hair_colour", "years", "smile"].find((n) => names.includes(n)) ?? names[0] ?? "";
  if (!about.encoder && !state.x) [state.x, state.y] = [about.numbers[0] ?? "", about.numbers[1] ?? ""];
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
  $("#more-button").addEventListener("click", moreFaces);
  new IntersectionObserver((seen) => { if (seen.some((s) => s.isIntersecting)) moreFaces(); }, { root: $("#stage"), rootMargin: "600px" }).observe($("#more"));
  $("#filters-button").addEventListener("click", filters);
  $("#help-button").addEventListener("click", () => $("#help").showModal());
  $("#save").addEventListener("click", save);
  $("#saved-button").addEventListener("click", views);
  $("#export-button").addEventListener("click", exporting);
  for (const button of document.querySelectorAll("[data-kind]")) button.addEventListener("click", () => download(button.dataset.kind).then(() => $("#export").close(), trouble));
  for (const button of document.querySelectorAll("[data-close]")) button.addEventListener("click", () => button.closest("dialog").close());
  $("#upload-button").addEventListener("click", () => $("#upload").click());
  $("#upload").addEventListener("change", (event) => { const [file] = event.target.files; event.target.value = ""; if (file) upload(file).catch(trouble); });
  $("#detail").addEventListener("close", () => { detail.closed(); state.face = null; write(true); });
  addEventListener("popstate", arrive);
  document.addEventListener("keydown", keys);
}

start().catch(trouble);
window.sfhq = { state, picked, change };
