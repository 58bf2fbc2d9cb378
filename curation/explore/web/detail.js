// One face: photo and layers, the inspiration beside all its candidates, columns, captions.
import { $, brief, el } from "./dom.js";
import { ask, photo, query, small } from "./net.js";
import { picked } from "./state.js";

let now = null;
let hooks = {};
let url = "";

export const current = () => now;
export const prepare = (given) => { hooks = given; };

export async function open(i) {
  const told = await ask(`/api/face/${i}`);
  now = { i, told, layer: "photo" };
  const { face } = told;
  const image = el("img", { alt: alt(face), id: "photo", width: 512, height: 512 });
  const layers = el("div", { role: "group", "aria-label": "What is drawn", id: "layers" },
    ...told.layers.map((layer) => el("button", { type: "button", "data-layer": layer, "aria-pressed": layer === "photo",
      onclick: () => show(layer) }, layer)));
  const table = (rows) => el("table", {}, el("tbody", {}, ...rows.map(([name, value]) => el("tr", {},
    el("th", { scope: "row" }, name.replaceAll("_", " ")), el("td", {}, value !== null && typeof value === "object" ? JSON.stringify(value) : brief(value))))));
  $("#detail").replaceChildren(...[
    el("div", { class: "top" }, el("h2", { id: "detail-title" }, face.id), el("span", { class: "faint" }, face.part),
      el("span", { class: "grow" }),
      el("button", { type: "button", onclick: () => hooks.step(-1), "aria-label": "Face before" }, "←"),
      el("button", { type: "button", onclick: () => hooks.step(1), "aria-label": "Next face" }, "→"),
      el("button", { type: "button", id: "pick", "aria-pressed": picked.has(i), onclick: () => hooks.pick(face) }, "Pick"),
      told.similar ? el("button", { type: "button", id: "similar", onclick: () => hooks.similar(face) }, "More like this") : null,
      el("button", { type: "button", onclick: close }, "Close")),
    face.alive ? null : el("p", { class: "refused" }, `Refused: ${face.reason}`),
    el("div", { class: "sides" },
      el("div", {}, image, layers),
      el("div", {}, ...told.captions.map((c) => el("p", { class: "caption" }, c)), family(told),
        el("h3", {}, "Where it comes from"), table(told.lineage), el("h3", {}, "What is said of it"), table(told.about)))].filter((part) => part));
  if (!$("#detail").open) $("#detail").showModal();
  await show("photo");
}

function family(told) {
  if (told.family.length < 2 && !told.layers.includes("inspiration")) return null;
  const row = el("div", { class: "family", role: "group", "aria-label": "Inspiration and candidates" });
  if (told.layers.includes("inspiration")) {
    const image = el("img", { alt: "inspiration", width: 110, height: 110 });
    photo(`/photo/${told.face.i}?${query({ layer: "inspiration", size: 512 })}`).then((u) => { image.src = u; }, () => {});
    row.append(el("figure", { class: "inspiration" }, image, el("figcaption", {}, "inspiration")));
  }
  for (const face of told.family) {
    const image = el("img", { alt: "", width: 110, height: 110 });
    small(face.i).then((u) => { if (u) image.src = u; }, () => {});
    const name = face.id.includes("-") ? face.id.slice(face.id.indexOf("-") + 1) : face.id;
    row.append(el("button", { type: "button", class: face.alive ? "" : "dead", "aria-pressed": face.i === told.face.i,
      onclick: () => hooks.open(face.i) }, image, el("span", {}, name)));
  }
  return el("div", {}, el("h3", {}, "Inspiration and candidates"), row);
}

export async function show(layer) {
  if (!now) return;
  const mine = now;
  mine.layer = layer;
  for (const button of document.querySelectorAll("#layers button")) button.setAttribute("aria-pressed", String(button.dataset.layer === layer));
  try {
    const made = await photo(`/photo/${mine.i}?${query({ layer, size: 1024 })}`);
    if (now !== mine || mine.layer !== layer) { URL.revokeObjectURL(made); return; }
    URL.revokeObjectURL(url);
    url = made;
    $("#photo").src = made;
    $("#photo").dataset.layer = layer;
  } catch (error) {
    hooks.trouble(error);
  }
}

// Whether the open face is picked.
export const mark = () => $("#pick")?.setAttribute("aria-pressed", String(picked.has(now?.i)));

export function next(step) {
  if (!now) return;
  const { layers } = now.told;
  show(layers[(layers.indexOf(now.layer) + step + layers.length) % layers.length]);
}

export function close() { $("#detail").close(); }
export function closed() { now = null; }
export const alt = (face) => face.caption || `face ${face.id}`;
