// The board: a row of sample faces for each value of a column.
import * as detail from "./detail.js";
import { $, el } from "./dom.js";
import { ask, query, small } from "./net.js";
import { state, view } from "./state.js";

// How many faces a row has room for.
const room = () => {
  const small = innerWidth <= 800, [label, one] = small ? [92, 78] : [122, 102];
  return Math.max(3, Math.min(24, Math.floor(($("#stage").clientWidth - label - 20) / one)));
};

// `open` shows a face, `change` the state anew, `trouble` an error.
export async function show({ open, change, trouble }) {
  $("#board-column").value = state.column;
  const rows = await ask(`/api/board?${query({ view: view(), column: state.column, across: room() })}`);
  const narrow = (row) => {
    if (row.range) state.r = { ...state.r, [state.column]: row.range };
    else state.f = { ...state.f, [state.column]: [row.value] };
    state.mode = "grid";
    change();
  };
  const cell = (face) => {
    const image = el("img", { alt: detail.alt(face), width: 120, height: 120 });
    small(face.i).then((url) => { if (url) image.src = url; }, trouble);
    return el("button", { type: "button", class: face.alive ? "" : "dead", onclick: () => open(face.i).catch(trouble) }, image);
  };
  $("#board-rows").replaceChildren(...rows.map((row) => el("section", { class: "row", "aria-label": row.label },
    el("button", { type: "button", class: "label", onclick: () => narrow(row) },
      el("b", {}, row.label.replaceAll("_", " ")), el("span", {}, row.count.toLocaleString("en"))),
    ...row.faces.map(cell))));
  if (!rows.length) $("#board-rows").append(el("p", { class: "empty" }, "No face of this view has a value here."));
}
