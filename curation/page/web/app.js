// The page: one face or a grid, a decision a key, figures beside it.

import { brush, dragging, histogram } from "/web/charts.js";
import { ACTIONS, actionOf, bind, bindings, nameOf, reset, start, usable } from "/web/keys.js";
import { ask, Images, load, Outbox } from "/web/net.js";

const AHEAD = 12;
const $ = (id) => document.getElementById(id);
const state = {
  who: "", part: "", view: "single", queue: [], history: [], shown: null, since: 0, band: null,
  columns: 6, page: [], here: 0, conflicts: [], asking: false, zoomed: false, overlay: false,
  ended: false, turn: 0, sent: false,
};
const images = new Images(160);
let outbox;
let counter = 0;
const mine = crypto.randomUUID().slice(0, 8);
const client = () => `${mine}-${++counter}`;

// Who asks, and from which page: two pages of one person get different faces.
const asker = () => `annotator=${encodeURIComponent(state.who)}&tab=${mine}`;

// For measuring: when a key was pressed, and when the next face was on the screen.
export const marks = [];
globalThis.sfhq = {
  state,
  marks,
  drained: () => outbox.drained(),
  ahead: () => Promise.all(state.queue.map(({ face }) => images.get(face).ready)),
};

// Whatever else is said, what is not saved stays in sight.
function say(text, trouble = false) {
  const unsaved = outbox?.waiting.length ?? 0;
  const refused = outbox?.refused.length ?? 0;
  const first = [];
  if (refused) first.push(`${refused} not stored`);
  if (unsaved > 3 || (unsaved && trouble)) first.push(`${unsaved} unsaved`);
  $("status").textContent = first.length ? `${first.join(", ")}: ${text}` : text;
  $("status").classList.toggle("trouble", trouble || refused > 0);
  $("refused-button").hidden = refused === 0;
  $("refused-button").textContent = `Not stored (${refused})`;
}

// After each change of what waits: what became of it.
function told(problem, done, lost) {
  const gone = new Set(lost.map(({ answer }) => answer?.client));
  if (gone.size) {
    // They are not there, so there is nothing of them to undo.
    for (const entry of state.history) entry.ids = entry.ids.filter((id) => !gone.has(id));
    state.history = state.history.filter((entry) => entry.ids.length);
    remember();
  }
  const refused = outbox.refused;
  if (problem) say(problem.message, true);
  else if (refused.length) say(refused.at(-1).why, true);
  else say(outbox.waiting.length ? "saving" : "saved");
  if (done?.training) refresh();
}

// Faces.

let again = 0;
async function refill() {
  if (state.asking || state.ended || state.queue.length >= AHEAD || state.view !== "single") return;
  state.asking = true;
  const band = state.band ? `&band=${state.band.join(",")}` : "";
  const path = `/api/cards?${asker()}&count=${AHEAD}${band}`;
  try {
    const { cards } = await ask(path);
    state.ended = cards.length === 0;
    if (state.ended) {
      // Another page may hold faces that it gives back.
      clearTimeout(again);
      again = setTimeout(() => { state.ended = false; refill(); }, 10000);
    }
    state.queue.push(...cards);
    for (const card of cards) images.get(card.face);
  } catch (problem) {
    say(problem.message, true);
    clearTimeout(again);
    again = setTimeout(refill, 1000);
    if (!state.shown && state.view === "single") {
      $("empty").hidden = false;
      $("empty").textContent = "The next face comes when the server answers.";
    }
    return;
  } finally {
    state.asking = false;
  }
  if (!state.shown && state.view === "single") next();
}

function next() {
  show(state.queue.shift() ?? null);
  refill();
}

function show(card) {
  state.shown = card;
  state.zoomed = false;
  $("photo").classList.remove("zoomed");
  $("empty").hidden = Boolean(card) || state.asking || !state.ended;
  $("empty").textContent = "No face is left to judge. Press g for the grid or v for the review.";
  if (!card) {
    $("photo").replaceChildren();
    delete $("photo").dataset.face;
    $("caption").textContent = "";
    return;
  }
  $("photo").dataset.face = card.face;
  $("caption").textContent = card.score === null || card.score === undefined ? "" : `score ${card.score.toFixed(2)}`;
  paint(card);
}

function paint(card) {
  const { image, ready } = images.get(card.face);
  $("photo").replaceChildren(image);
  state.since = performance.now();
  ready.then((why) => {
    if (state.shown !== card) return;
    if (why) {
      missing(card, why, 250);
      return;
    }
    if (state.overlay) drawOverlay(card);
    requestAnimationFrame(() => {
      const channel = new MessageChannel();
      channel.port1.onmessage = () => {
        const last = marks.at(-1);
        if (last && last.painted === undefined) last.painted = performance.now();
      };
      channel.port2.postMessage(0);
    });
  });
}

// In place of an image that did not come: why, and more tries until it comes or is left behind.
async function missing(card, why, pause) {
  const here = () => state.shown === card && state.view === "single";
  if (!here()) return;
  const line = document.createElement("p");
  line.className = "lost";
  line.setAttribute("role", "status");
  line.textContent = why;
  $("photo").replaceChildren(line);
  await new Promise((resolve) => setTimeout(resolve, pause));
  if (!here()) return;
  const still = await images.get(card.face).ready;
  if (!here()) return;
  if (still) missing(card, still, Math.min(pause * 2, 5000));
  else paint(card);
}

async function drawOverlay(card) {
  const place = $("photo");
  const image = images.get(card.face).image;
  const canvas = document.createElement("canvas");
  canvas.width = image.naturalWidth;
  canvas.height = image.naturalHeight;
  const context = canvas.getContext("2d");
  const mask = new Image();
  const [found, hasMask] = await Promise.all([
    ask(`/api/points/${encodeURIComponent(card.face)}`).catch(() => ({ points: null })),
    load(mask, `/mask/${encodeURIComponent(card.face)}`).then((why) => !why),
  ]);
  if (state.shown !== card) return;
  if (hasMask) {
    context.globalAlpha = 0.45;
    context.drawImage(mask, 0, 0, canvas.width, canvas.height);
    context.globalAlpha = 1;
  }
  context.fillStyle = "#3df58c";
  for (const [x, y] of found.points ?? []) {
    context.beginPath();
    context.arc(x * canvas.width, y * canvas.height, Math.max(canvas.width / 220, 1), 0, 7);
    context.fill();
  }
  if (!hasMask && !found.points) say("This part has neither landmarks nor masks yet.");
  place.append(canvas);
}

// Decisions.

function decide(action) {
  if (state.view === "review") return settle(action);
  if (state.view === "grid") return action === "keep" || action === "reject" ? mark(action) : undefined;
  const card = state.shown;
  if (!card) return undefined;
  if (outbox.full) return say("Too many decisions are waiting for the server; wait a moment.", true);
  const id = client();
  const reaction = Math.round(performance.now() - state.since);
  marks.push({ pressed: performance.now(), face: card.face });
  state.history.push({ cards: [card], ids: [id], action });
  next();
  outbox.put(state.who, [{ face: card.face, action, client: id, reaction }]);
  remember();
  return undefined;
}

function undo() {
  const last = state.history.pop();
  if (!last) return undoEarlier();
  outbox.put(state.who, last.ids.map((id) => ({ undo: id, client: client() })));
  back(last.cards, last.view ?? "single");
  remember();
  return undefined;
}

async function undoEarlier() {
  await outbox.drained();
  const { cards } = await ask("/api/undo", { annotator: state.who, tab: mine, client: client() });
  if (!cards.length) say("Nothing to undo.");
  else back(cards, cards.length > 1 ? "grid" : "single");
}

function back(cards, view) {
  state.ended = false;
  if (view === "grid") {
    turnTo(cards);
    if (state.view !== "grid") open("grid", true);
    return;
  }
  if (state.view !== "single") open("single");
  if (state.shown) state.queue.unshift(state.shown);
  show(cards[0]);
}

function remember() {
  $("history").replaceChildren(...state.history.slice(-8).reverse().map(({ cards, action }) => {
    const item = document.createElement("li");
    const word = document.createElement("span");
    word.className = `${action}-word`;
    word.textContent = action;
    item.append(word, cards.length > 1 ? ` ${cards.length} faces` : ` ${cards[0].face}`);
    return item;
  }));
}

// Grid.

async function fillGrid() {
  const turn = ++state.turn;
  const count = state.columns ** 2;
  const band = state.band ? `&band=${state.band.join(",")}` : "";
  try {
    const { cards } = await ask(`/api/cards?${asker()}&mode=grid&count=${count}${band}`);
    if (turn === state.turn) turnTo(cards);
  } catch (problem) {
    say(problem.message, true);
    setTimeout(() => { if (turn === state.turn && state.view === "grid") fillGrid(); }, 1000);
  }
}

// Shows other cards; answers to earlier requests are dropped.
function turnTo(cards) {
  state.turn += 1;
  state.sent = false;
  state.page = cards.map((card) => ({ ...card, keep: (card.score ?? 1) >= 0.5 }));
  state.here = 0;
  state.since = performance.now();
  if (state.view === "grid") drawGrid();
}

function drawGrid() {
  const grid = $("grid");
  grid.style.setProperty("--columns", state.columns);
  $("empty").hidden = state.page.length > 0;
  $("empty").textContent = "No face is left to judge.";
  grid.replaceChildren(...state.page.map((card, i) => {
    const button = document.createElement("button");
    button.type = "button";
    const image = images.get(card.face, 256).image;
    button.append(image);
    button.addEventListener("click", (event) => {
      if (event.shiftKey) {
        const [from, to] = [Math.min(state.here, i), Math.max(state.here, i)];
        for (let k = from; k <= to; k += 1) state.page[k].keep = !card.keep && k === i ? true : state.page[i].keep;
      }
      state.here = i;
      card.keep = !card.keep;
      markGrid();
    });
    return button;
  }));
  markGrid();
}

function markGrid() {
  [...$("grid").children].forEach((button, i) => {
    const card = state.page[i];
    button.setAttribute("aria-pressed", String(card.keep));
    button.setAttribute("aria-label", `face ${i + 1}: ${card.keep ? "keep" : "reject"}`);
    button.classList.toggle("here", i === state.here);
  });
}

function mark(action) {
  if (!state.page.length) return;
  state.page[state.here].keep = action === "keep";
  state.here = Math.min(state.here + 1, state.page.length - 1);
  markGrid();
}

function commit() {
  if (state.view !== "grid" || !state.page.length || state.sent) return;
  state.sent = true; // until the next page is there
  const page = client();
  const reaction = Math.round((performance.now() - state.since) / state.page.length);
  const answers = state.page.map((card, i) => ({
    face: card.face, action: card.keep ? "keep" : "reject", client: `${page}.${i}`, reaction,
  }));
  state.history.push({ cards: state.page, ids: answers.map((a) => a.client), action: "page", view: "grid" });
  outbox.put(state.who, answers);
  remember();
  fillGrid();
}

function move(step) {
  if (state.view === "grid") {
    state.here = Math.min(Math.max(state.here + step, 0), Math.max(state.page.length - 1, 0));
    markGrid();
  } else if (state.view === "review") {
    state.here = Math.min(Math.max(state.here + Math.sign(step), 0), Math.max(state.conflicts.length - 1, 0));
    drawReview();
  }
}

// Review.

async function openReview() {
  await outbox.drained();
  state.conflicts = (await ask("/api/conflicts")).conflicts;
  state.here = 0;
  drawReview();
}

function drawReview() {
  $("empty").hidden = state.conflicts.length > 0;
  $("empty").textContent = "Nobody disagrees.";
  $("review").replaceChildren(...state.conflicts.map(({ face, labels }, i) => {
    const row = document.createElement("div");
    row.className = `conflict${i === state.here ? " here" : ""}`;
    const words = document.createElement("div");
    for (const [who, label] of Object.entries(labels)) {
      const line = document.createElement("p");
      const word = document.createElement("strong");
      word.className = `${label}-word`;
      word.textContent = label;
      line.append(`${who}: `, word);
      words.append(line);
    }
    row.append(images.get(face, 256).image, words);
    row.addEventListener("click", () => { state.here = i; drawReview(); });
    return row;
  }));
  $("review").children[state.here]?.scrollIntoView({ block: "nearest" });
}

function settle(action) {
  const conflict = state.conflicts[state.here];
  if (!conflict || (action !== "keep" && action !== "reject")) return;
  const id = client();
  outbox.put(state.who, [{ face: conflict.face, action, client: id, review: true }]);
  state.history.push({ cards: [{ face: conflict.face, score: null }], ids: [id], action });
  state.conflicts.splice(state.here, 1);
  state.here = Math.min(state.here, Math.max(state.conflicts.length - 1, 0));
  remember();
  drawReview();
}

// Views, figures, help.

function open(view, keepPage = false) {
  state.view = view;
  for (const name of ["single", "grid", "review"]) {
    $(name).hidden = name !== view;
    document.querySelector(`[data-view=${name}]`).setAttribute("aria-pressed", String(name === view));
  }
  $("empty").hidden = true;
  const names = { single: ["reject", "skip", "keep", "flag", "undo"], grid: ["commit", "undo"], review: ["reject", "keep", "undo"] };
  $("actions").replaceChildren(...names[view].map((name) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = name;
    const key = document.createElement("kbd");
    key.textContent = nameOf(bindings()[name][0] ?? "");
    button.append(`${ACTIONS[name].label.split(":").pop().trim().replace("Flag to look at again", "Flag")} `, key);
    button.addEventListener("click", () => act(name));
    return button;
  }));
  if (view === "single") refill().then(() => !state.shown && state.queue.length && next());
  if (view === "grid") keepPage ? drawGrid() : fillGrid();
  if (view === "review") openReview();
}

const percent = (v) => `${(100 * v).toFixed(1)} %`;
const within = (found, text = percent) => `${text(found.value)} (${text(found.low)} to ${text(found.high)})`;

function list(place, pairs) {
  place.replaceChildren(...pairs.flatMap(([name, value]) => {
    const term = document.createElement("dt");
    const what = document.createElement("dd");
    term.textContent = name;
    what.textContent = value;
    return [term, what];
  }));
}

function draw(figures) {
  list($("counts"), [
    ["labelled", `${figures.labelled} of ${figures.faces}`],
    ["kept", figures.labelled ? percent(figures.kept / figures.labelled) : "none yet"],
    ["flagged", figures.flagged],
    ["labels an hour", figures.rate === null ? "" : Math.round(figures.rate).toLocaleString("en")],
  ]);
  const { histograms: h, model, random, consistency, agreement } = figures;
  const auc = model?.auc;
  list($("quality"), [
    ["cross-validated AUC", auc ? within(auc, (v) => v.toFixed(3)) : "no model yet"],
    ["right on random faces", random.value === null ? `not enough: ${random.count} of ${random.wanted}` : within(random)],
    ["same answer on repeats", consistency.value === null ? "no repeats yet" : `${within(consistency)}, ${consistency.count}`],
    ...(agreement ? [[agreement.name, agreement.value === null ? "not enough" : `${agreement.value.toFixed(2)}, ${agreement.count} faces`]] : []),
    ["model", model ? `${model.version}, ${model.kept + model.rejected} labels` : ""],
  ]);
  const none = [];
  histogram($("plot-labels"), [{ bars: h.kept ?? none, kind: "keep" }, { bars: h.rejected ?? none, kind: "reject" }],
    "Cross-validated scores of kept and rejected faces");
  const pool = histogram($("plot-pool"), [{ bars: h.pool ?? none, kind: "pool" }], "Scores of unlabelled faces");
  brush(pool, state.band, (band) => {
    state.band = band;
    state.queue = [];
    state.ended = false;
    draw(figures);
    say(band ? `Focus on scores ${band[0]} to ${band[1]}` : "No focus");
    if (state.view === "grid") fillGrid();
    else refill();
  });
  histogram($("plot-session"), [{ bars: h.session_kept ?? none, kind: "keep" }, { bars: h.session_rejected ?? none, kind: "reject" }],
    "Scores of what was kept and rejected in this session");
  $("conflicts").textContent = figures.conflicts ? `(${figures.conflicts})` : "";
  if (figures.trouble) say(figures.trouble, true);
  state.figures = figures;
}

let due = 0;
async function refresh() {
  clearTimeout(due);
  try {
    const figures = await ask(`/api/figures?${asker()}`);
    if (!dragging()) draw(figures);
  } catch (problem) {
    if (problem.status) say(problem.message, true);
  }
  due = setTimeout(refresh, state.figures?.training ? 700 : 4000);
}

function help() {
  $("bindings").replaceChildren(...Object.entries(bindings()).map(([name, keys]) => {
    const row = document.createElement("tr");
    const what = document.createElement("td");
    what.textContent = ACTIONS[name].label;
    const which = document.createElement("td");
    which.append(...keys.flatMap((key) => {
      const element = document.createElement("kbd");
      element.textContent = nameOf(key);
      return [element, " "];
    }));
    const change = document.createElement("td");
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Change";
    button.setAttribute("aria-label", `Change the key of ${ACTIONS[name].label}`);
    button.addEventListener("click", () => {
      button.textContent = "Press a key";
      const take = (event) => {
        event.preventDefault();
        event.stopImmediatePropagation();
        if (!usable(event.key)) return;
        removeEventListener("keydown", take, true);
        if (event.key !== "Escape") bind(name, event.key);
        help();
      };
      addEventListener("keydown", take, true);
    });
    change.append(button);
    row.append(what, which, change);
    return row;
  }));
  if (!$("help").open) $("help").showModal();
}

function act(name) {
  switch (name) {
    case "keep": case "reject": case "skip": case "flag": return decide(name);
    case "undo": return undo();
    case "train": return ask("/api/train", {}).then(({ began, why }) => { say(began ? "Training" : `No training begins: ${why}`); refresh(); });
    case "single": case "grid": case "review": return open(name);
    case "commit": return commit();
    case "left": return move(-1);
    case "right": return move(1);
    case "up": return move(-state.columns);
    case "down": return move(state.columns);
    case "fewer": case "more":
      state.columns = Math.min(Math.max(state.columns + (name === "more" ? 1 : -1), 4), 10);
      return state.view === "grid" ? fillGrid() : undefined;
    case "zoom": return zoom();
    case "overlay":
      state.overlay = !state.overlay;
      return state.shown && show(state.shown);
    case "help": return help();
    default: return undefined;
  }
}

function zoom() {
  if (!state.shown || state.view !== "single") return;
  state.zoomed = !state.zoomed;
  $("photo").classList.toggle("zoomed", state.zoomed);
  $("photo").replaceChildren(images.get(state.shown.face, state.zoomed ? 1024 : 512).image);
}

// A field of a dialog just closed keeps the focus until the next frame: its keys are meant for the face.
function typing(target) {
  const dialog = target.closest("dialog");
  return dialog ? dialog.open : Boolean(target.closest("input"));
}

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
  const name = actionOf(event);
  if (!name) return;
  if ((name === "commit" || name === "skip") && event.target.closest("nav button, header button")) return;
  event.preventDefault();
  if (event.repeat && !["left", "right", "up", "down"].includes(name)) return;
  act(name);
});
for (const button of document.querySelectorAll("[data-view]")) {
  button.addEventListener("click", () => { button.blur(); open(button.dataset.view); });
}
$("help-button").addEventListener("click", help);
$("close-help").addEventListener("click", () => { $("help").close(); open(state.view, true); });
$("reset-keys").addEventListener("click", () => { reset(); help(); });

// What the server refused: by whom, which face, what was said of it, and why it is not stored.
function showRefused() {
  $("refusals").replaceChildren(...outbox.refused.map(({ annotator, answer, why }) => {
    const row = document.createElement("tr");
    const words = [annotator, answer?.face ?? "", answer?.undo ? "undo" : answer?.action ?? "", why];
    row.append(...words.map((word) => {
      const cell = document.createElement("td");
      cell.textContent = word;
      return cell;
    }));
    return row;
  }));
  if (!$("refused").open) $("refused").showModal();
}
$("refused-button").addEventListener("click", showRefused);
$("close-refused").addEventListener("click", () => $("refused").close());
$("send-again").addEventListener("click", () => { $("refused").close(); outbox.again(); });
$("forget").addEventListener("click", () => { $("refused").close(); outbox.forget(); });

async function begin(name) {
  const found = await ask("/api/start", { annotator: name, tab: mine });
  state.who = found.annotator;
  state.part = found.part;
  localStorage.setItem("sfhq-name", found.annotator);
  $("part").textContent = `${found.part} · ${found.annotator}`;
  start(found.annotator, found.keys);
  outbox = new Outbox(mine, told);
  if (outbox.refused.length) told(null, null, []);
  await outbox.drained();
  open("single");
  refresh();
}

// Asks who it is, with the names that the part knows, and why the last name was not taken.
function askName(why = "") {
  $("name-problem").hidden = !why;
  $("name-problem").textContent = why;
  ask("/api/people").then(({ people }) => $("people").replaceChildren(...people.map((name) => {
    const choice = document.createElement("option");
    choice.value = name;
    return choice;
  }))).catch((problem) => {
    say(problem.message, true);
    $("name-problem").hidden = false;
    $("name-problem").textContent = problem.message;
  });
  $("who").showModal();
}

function enter(name) {
  begin(name).catch((problem) => {
    if (problem.status === 400) return askName(problem.message);
    say(problem.message, true);
    $("empty").hidden = false;
    $("empty").textContent = problem.message;
    return undefined;
  });
}

$("who").addEventListener("close", () => enter($("name").value.trim() || "me"));
const known = localStorage.getItem("sfhq-name");
if (known) enter(known);
else askName();

// A closed page gives back its faces; one that comes back from the browser's memory begins anew.
addEventListener("pagehide", () => {
  if (state.who) ask("/api/leave", { annotator: state.who, tab: mine }, { keepalive: true }).catch(() => {});
});
addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
