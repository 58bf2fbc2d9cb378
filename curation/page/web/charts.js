// Histograms as SVG, and a brush on one of them.

const NS = "http://www.w3.org/2000/svg";
const WIDTH = 260;
const HEIGHT = 78;
const BASE = 62;

function make(name, attributes, parent) {
  const element = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  parent?.append(element);
  return element;
}

export function histogram(place, series, label) {
  const svg = make("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label });
  const top = Math.max(1, ...series.flatMap((s) => s.bars));
  for (const { bars, kind } of series) {
    const width = WIDTH / bars.length;
    bars.forEach((count, i) => {
      if (!count) return;
      const height = Math.max((BASE - 4) * count / top, 1);
      make("rect", { class: `bar-${kind}`, x: i * width + 0.5, y: BASE - height, width: width - 1, height }, svg);
    });
  }
  make("line", { class: "axis", x1: 0, x2: WIDTH, y1: BASE, y2: BASE }, svg);
  for (const [at, text] of [[0, "0"], [0.5, "0.5"], [1, "1"]]) {
    const anchor = at === 0 ? "start" : at === 1 ? "end" : "middle";
    make("text", { x: at * WIDTH, y: HEIGHT - 4, "text-anchor": anchor }, svg).textContent = text;
  }
  place.replaceChildren(svg);
  return svg;
}

// Drag over the scores of interest; a click takes the band away. Its place must not be drawn anew
// while `dragging()` says that somebody drags.
let held = false;
export const dragging = () => held;

export function brush(svg, band, changed) {
  let shown = band ? make("rect", { class: "brush", y: 0, height: BASE }, svg) : null;
  const draw = ([from, to]) => {
    shown ??= make("rect", { class: "brush", y: 0, height: BASE }, svg);
    shown.setAttribute("x", from * WIDTH);
    shown.setAttribute("width", Math.max((to - from) * WIDTH, 1));
  };
  if (band) draw(band);
  const at = (event) => {
    const box = svg.getBoundingClientRect();
    return Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1);
  };
  svg.addEventListener("pointerdown", (event) => {
    const start = at(event);
    const range = (now) => [Math.min(start, at(now)), Math.max(start, at(now))];
    const move = (now) => draw(range(now));
    held = true;
    svg.setPointerCapture(event.pointerId);
    svg.addEventListener("pointermove", move);
    svg.addEventListener("lostpointercapture", (end) => {
      held = false;
      svg.removeEventListener("pointermove", move);
      const found = range(end);
      changed(found[1] - found[0] < 0.02 ? null : found.map((v) => Math.round(v * 100) / 100));
    }, { once: true });
  });
}
