// Keys: one for everything that is done often, and none while somebody types.
import * as detail from "./detail.js";
import { $, el } from "./dom.js";
import { columns, faces, focus, focused } from "./grid.js";

const MORE = [["arrows", "move; in an open face the next one"], ["Home End", "first and last face that is shown"], ["Enter", "open"],
  ["Esc", "close"], ["Ctrl-click", "pick"], ["Shift-click", "pick a row of faces"],
  ["+ - 0", "on the map: nearer, farther, all of it"], ["Shift-drag", "on the map: lasso"]];

// `table` has a row for each key: key, what it does, the function, and whether an open face allows it.
export function listen(table, step) {
  $("#keys").replaceChildren(...[...table, ...MORE].map(([key, what]) => el("tr", {},
    el("td", {}, ...key.split(" ").map((one) => el("kbd", {}, one))), el("td", {}, what))));
  document.addEventListener("keydown", (event) => pressed(event, table, step));
}

const typing = (target) => Boolean(target.closest("textarea, select, input:not([type=checkbox])"));

function pressed(event, table, step) {
  if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
  if (document.querySelector("dialog:not(#detail)[open]")) return;
  const open = Boolean(detail.current()), { key } = event;
  if (open && (key === "ArrowLeft" || key === "ArrowRight")) {
    event.preventDefault();
    step(key === "ArrowLeft" ? -1 : 1);
    return;
  }
  const here = focused();
  const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns(), ArrowDown: columns(), Home: -here, End: faces.length - 1 - here };
  if (!open && key in moves && !$("#grid").hidden && (here >= 0 || event.target === document.body)) {
    event.preventDefault();
    focus(here < 0 ? 0 : here + moves[key]);
    return;
  }
  const found = table.find((row) => row[0] === key);
  if (!found || (open && !found[3])) return;
  event.preventDefault();
  found[2]();
}
