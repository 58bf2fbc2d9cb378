// What leaves the page: exported selections, new parts and saved views; and what comes in: a picture.
import { $, el, many } from "./dom.js";
import { count } from "./grid.js";
import { place, send } from "./net.js";
import { address, picked, state, view } from "./state.js";

const SAVED = `sfhq-explore-views-${place}`;
let hooks = {};

// `change` shows the state anew, `trouble` an error; `parts` says where new parts may be written.
export function prepare(given) {
  hooks = given;
  $("#part-form").hidden = !hooks.parts;
  $("#part-how").hidden = Boolean(hooks.parts);
  $("#save").addEventListener("click", save);
  $("#saved-button").addEventListener("click", views);
  $("#export-button").addEventListener("click", exporting);
  for (const button of document.querySelectorAll("[data-kind]")) button.addEventListener("click", () => download(button.dataset.kind).catch(failed));
  $("#part-form").addEventListener("submit", (event) => { event.preventDefault(); part($("#part-name").value.trim()).catch(failed); });
  $("#upload-button").addEventListener("click", () => $("#upload").click());
  $("#upload").addEventListener("change", (event) => {
    const [file] = event.target.files;
    event.target.value = "";
    if (file) upload(file).catch(hooks.trouble);
  });
}

const selection = () => (picked.size ? { picked: [...picked] } : view());
const say = (text, bad = false) => {
  $("#export-told").textContent = text;
  $("#export-told").classList.toggle("trouble", bad);
};
const failed = (error) => say(error.message, true);

export function exporting() {
  $("#export-what").textContent = picked.size ? `The ${many(picked.size, "face")} that you picked.` : `All ${many(count(), "face")} of this view, in its order.`;
  say("");
  $("#export").showModal();
}

async function download(kind) {
  say("Asking…");
  const answer = await send("/api/export", { view: selection(), kind });
  const link = el("a", { href: URL.createObjectURL(await answer.blob()), download: `faces.${kind === "ids" ? "txt" : kind}` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  say(`${link.download} is with your downloads.`);
}

async function part(name) {
  say("Writing…");
  const made = await (await send("/api/part", { view: selection(), name })).json();
  say(`${many(made.faces, "face")} written to ${made.part}`);
}

const saved = () => { try { return JSON.parse(localStorage.getItem(SAVED)) ?? []; } catch { return []; } };

function save() {
  const name = [...document.querySelectorAll("#chips button")].map((b) => b.firstChild.textContent).join(", ") || "everything";
  const all = saved().filter((v) => v.to !== address());
  localStorage.setItem(SAVED, JSON.stringify([{ name: `${state.mode}: ${name}`, to: address() }, ...all].slice(0, 100)));
  $("#status").textContent = "View saved; its address is in the address bar.";
}

export function views() {
  const all = saved();
  const row = (one) => el("li", {}, el("a", { href: one.to, onclick: () => $("#saved").close() }, one.name), " ",
    el("button", { type: "button", "aria-label": `forget ${one.name}`, onclick: () => {
      localStorage.setItem(SAVED, JSON.stringify(saved().filter((v) => v.to !== one.to)));
      views();
    } }, "×"));
  $("#views").replaceChildren(...(all.length ? all.map(row) : [el("li", { class: "faint" }, "None yet: press Save view.")]));
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
  hooks.change();
}
