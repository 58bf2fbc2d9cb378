// The map: all faces as dots on a canvas, pictures where there is room, and a lasso.
//
// Level of detail: faces are put in order of cells of a 64 x 64 raster, so that a zoomed view walks
// only the cells it shows; while the map moves at most MOVING dots are drawn, each frame the same
// evenly spread ones, and all of them when it rests.
import { el } from "./dom.js";
import { bytes, query, small } from "./net.js";
import { state, view } from "./state.js";

const SIDE = 64, MOVING = 150000, FULL = 65000, NOWHERE = 65535;
const PICTURE = 56, LARGE = 84, FEW = 150, MOST_PICTURES = 260, PICTURES_BELOW = 4000;
const HUES = [[57, 106, 177], [218, 124, 48], [62, 150, 81], [204, 37, 41], [107, 76, 154],
  [146, 36, 40], [148, 139, 61], [20, 150, 160], [230, 90, 160], [120, 120, 120]];

export class FaceMap {
  constructor(canvas, { open, lasso }) {
    Object.assign(this, { canvas, open, onLasso: lasso });
    this.context = canvas.getContext("2d", { alpha: false });
    this.images = new Map();
    this.home();
    this.moving = 0;
    this.frames = 0;
    this.#listen();
    new ResizeObserver(() => this.resize()).observe(canvas);
  }

  home() { Object.assign(this, { cx: 0.5, cy: 0.5, scale: 0.92 }); }

  // Places of all faces, sorted by cell; `start` says where each cell begins.
  async load(x, y) {
    const key = `${x}|${y}`;
    if (this.key === key) return;
    const data = new Uint16Array(await bytes(`/api/map?${query({ x, y })}`));
    const n = data.length / 2, start = new Uint32Array(SIDE * SIDE + 1);
    const cell = new Int32Array(n);
    for (let i = 0; i < n; i++) {
      if (data[i] === NOWHERE) { cell[i] = -1; continue; }
      const cx = Math.min(SIDE - 1, (data[i] * SIDE / FULL) | 0), cy = Math.min(SIDE - 1, (data[n + i] * SIDE / FULL) | 0);
      cell[i] = cy * SIDE + cx;
      start[cell[i] + 1]++;
    }
    for (let c = 0; c < SIDE * SIDE; c++) start[c + 1] += start[c];
    const next = start.slice(), total = start[SIDE * SIDE];
    this.face = new Uint32Array(total);
    this.x = new Float32Array(total);
    this.y = new Float32Array(total);
    for (let i = 0; i < n; i++) {
      if (cell[i] < 0) continue;
      const at = next[cell[i]]++;
      this.face[at] = i;
      this.x[at] = data[i] / FULL;
      this.y[at] = 1 - data[n + i] / FULL;
    }
    Object.assign(this, { key, n, total, start });
    this.home();
  }

  async show() {
    this.shown = new Uint8Array(await bytes(`/api/map/shown?${query({ view: view() })}`));
    this.codes = state.colour ? new Uint8Array(await bytes(`/api/map/codes?${query({ column: state.colour })}`)) : null;
    this.draw();
  }

  resize() {
    const ratio = Math.min(devicePixelRatio || 1, 2), box = this.canvas.getBoundingClientRect();
    if (!box.width || !box.height) return;
    this.ratio = ratio;
    this.canvas.width = Math.round(box.width * ratio);
    this.canvas.height = Math.round(box.height * ratio);
    this.pixels = null;
    this.draw();
  }

  #palette() {
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const packed = (r, g, b) => (255 << 24) | (b << 16) | (g << 8) | r;
    const facet = this.facets?.find((f) => f.name === state.colour);
    const colours = new Int32Array(256).fill(packed(128, 128, 128));
    for (let k = 0; k < 255; k++) {
      if (facet?.kind === "number") {
        const t = Math.min(1, k / 39);
        colours[k] = packed(Math.round(60 + 180 * t), Math.round(70 + 110 * Math.sin(Math.PI * t)), Math.round(200 - 160 * t));
      } else colours[k] = packed(...HUES[Math.min(k, HUES.length - 1)]);
    }
    return { back: dark ? packed(23, 25, 29) : packed(251, 251, 250), faint: dark ? packed(52, 57, 65) : packed(218, 222, 226),
      one: dark ? packed(120, 170, 240) : packed(45, 95, 158), colours };
  }

  toScreen(x, y) {
    const s = this.scale * Math.min(this.canvas.width, this.canvas.height);
    return [this.canvas.width / 2 + (x - this.cx) * s, this.canvas.height / 2 + (y - this.cy) * s];
  }

  fromScreen(px, py) {
    const s = this.scale * Math.min(this.canvas.width, this.canvas.height);
    return [this.cx + (px - this.canvas.width / 2) / s, this.cy + (py - this.canvas.height / 2) / s];
  }

  draw() {
    if (this.waiting || !this.total || !this.canvas.width) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.paint();
      this.frames++;
    });
  }

  // Dots straight into the pixels: a path for each would be twenty times slower.
  paint() {
    const { width, height } = this.canvas, { context } = this;
    if (!this.pixels) {
      this.pixels = context.createImageData(width, height);
      this.words = new Int32Array(this.pixels.data.buffer);
    }
    const { words, x, y, face, start, shown, codes } = this;
    const { back, faint, one, colours } = this.#palette();
    words.fill(back);
    const s = this.scale * Math.min(width, height);
    const dx = width / 2 - this.cx * s, dy = height / 2 - this.cy * s;
    const [left, top] = this.fromScreen(0, 0), [right, bottom] = this.fromScreen(width, height);
    const c0 = Math.max(0, Math.floor(left * SIDE)), c1 = Math.min(SIDE - 1, Math.floor(right * SIDE));
    // Rows of the raster count upwards, the screen downwards.
    const r0 = Math.max(0, Math.floor((1 - bottom) * SIDE)), r1 = Math.min(SIDE - 1, Math.floor((1 - top) * SIDE));
    let seen = 0;
    if (c1 >= c0) for (let r = r0; r <= r1; r++) seen += start[r * SIDE + c1 + 1] - start[r * SIDE + c0];
    const step = this.moving && seen > MOVING ? Math.ceil(seen / MOVING) : 1;
    const size = Math.round((seen > 50000 ? 1 : seen > 5000 ? 2 : 4) * this.ratio);
    for (let pass = 0; pass < 2; pass++) {
      for (let r = r0; r <= r1 && c1 >= c0; r++) {
        const end = start[r * SIDE + c1 + 1];
        for (let k = start[r * SIDE + c0]; k < end; k += step) {
          const i = face[k], on = shown ? shown[i] : 1;
          if (on !== pass) continue;
          const px = (x[k] * s + dx) | 0, py = (y[k] * s + dy) | 0;
          if (px < 0 || py < 0 || px >= width - size || py >= height - size) continue;
          const colour = on ? (codes ? colours[codes[i]] : one) : faint;
          let at = py * width + px;
          for (let v = 0; v < size; v++, at += width) for (let u = 0; u < size; u++) words[at + u] = colour;
        }
      }
    }
    context.putImageData(this.pixels, 0, 0);
    this.drawn = Math.ceil(seen / step);
    this.placed = [];
    if (seen && seen < PICTURES_BELOW) {
      const css = (w) => `rgb(${w & 255} ${(w >> 8) & 255} ${(w >> 16) & 255})`;
      this.#pictures(seen, r0, r1, c0, c1, s, dx, dy, (i) => css(colours[codes[i]]));
    }
    if (this.loop?.length) this.#outline();
  }

  // One picture for each place of a raster of the screen that a shown face falls in; the raster
  // fills the canvas, so that none is cut.
  #pictures(seen, r0, r1, c0, c1, s, dx, dy, colour) {
    const { width, height } = this.canvas, wanted = (seen < FEW && width > 700 * this.ratio ? LARGE : PICTURE) * this.ratio;
    const across = width / Math.max(1, Math.floor(width / wanted)), down = height / Math.max(1, Math.floor(height / wanted));
    const side = Math.min(across, down), edge = this.codes ? 3 * this.ratio : 0, taken = new Set();
    for (let r = r0; r <= r1; r++) {
      for (let k = this.start[r * SIDE + c0]; k < this.start[r * SIDE + c1 + 1]; k++) {
        const i = this.face[k];
        if (this.shown && !this.shown[i]) continue;
        const px = this.x[k] * s + dx, py = this.y[k] * s + dy;
        if (px < 0 || py < 0 || px >= width || py >= height) continue;
        const u = Math.floor(px / across), v = Math.floor(py / down), key = v * 4096 + u;
        if (taken.has(key) || taken.size >= MOST_PICTURES) continue;
        taken.add(key);
        const image = this.#image(i), left = u * across + 1, top = v * down + 1;
        this.placed.push({ i, left, top, side });
        if (!image) continue;
        if (edge) {
          this.context.fillStyle = colour(i);
          this.context.fillRect(left, top, side - 2, side - 2);
        }
        this.context.drawImage(image, left + edge, top + edge, side - 2 - 2 * edge, side - 2 - 2 * edge);
      }
    }
  }

  #image(i) {
    const found = this.images.get(i);
    if (found !== undefined) return found;
    this.images.set(i, null);
    small(i, 96).then(async (url) => {
      const image = new Image();
      image.src = url;
      await image.decode();
      this.images.set(i, image);
      this.draw();
    }).catch((error) => { if (error.name === "AbortError") this.images.delete(i); });
    if (this.images.size > 2000) this.images.delete(this.images.keys().next().value);
    return null;
  }

  #outline() {
    const { context } = this;
    context.beginPath();
    this.loop.forEach(([x, y], k) => context[k ? "lineTo" : "moveTo"](...this.toScreen(x, y)));
    context.closePath();
    context.lineWidth = 2 * this.ratio;
    context.strokeStyle = "#e07a1f";
    context.stroke();
  }

  move(dx, dy) {
    const s = this.scale * Math.min(this.canvas.width, this.canvas.height);
    this.cx -= dx / s;
    this.cy -= dy / s;
    this.#stir();
  }

  zoom(factor, px = this.canvas.width / 2, py = this.canvas.height / 2) {
    const [x, y] = this.fromScreen(px, py);
    this.scale = Math.min(4000, Math.max(0.3, this.scale * factor));
    const [nx, ny] = this.fromScreen(px, py);
    this.cx += x - nx;
    this.cy += y - ny;
    this.#stir();
  }

  #stir() {
    clearTimeout(this.moving);
    this.moving = setTimeout(() => { this.moving = 0; this.draw(); }, 140);
    this.draw();
  }

  nearest(px, py) {
    const picture = this.placed?.find((p) => px >= p.left && px < p.left + p.side && py >= p.top && py < p.top + p.side);
    if (picture) return picture.i;
    let best = -1, least = (24 * this.ratio) ** 2;
    const s = this.scale * Math.min(this.canvas.width, this.canvas.height), [x0, y0] = this.fromScreen(px, py);
    for (let k = 0; k < this.total; k++) {
      if (this.shown && !this.shown[this.face[k]]) continue;
      const d = ((this.x[k] - x0) * s) ** 2 + ((this.y[k] - y0) * s) ** 2;
      if (d < least) { least = d; best = this.face[k]; }
    }
    return best;
  }

  #listen() {
    const { canvas } = this;
    const at = (event) => {
      const box = canvas.getBoundingClientRect();
      return [(event.clientX - box.left) * this.ratio, (event.clientY - box.top) * this.ratio];
    };
    const down = new Map();
    let far = 0;
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      down.set(event.pointerId, at(event));
      far = 0;
      if (this.lassoing || event.shiftKey) { this.loop = [this.fromScreen(...at(event))]; this.tracing = true; }
    });
    canvas.addEventListener("pointermove", (event) => {
      const before = down.get(event.pointerId);
      if (!before) return;
      const now = at(event);
      far += Math.abs(now[0] - before[0]) + Math.abs(now[1] - before[1]);
      if (this.tracing) {
        this.loop.push(this.fromScreen(...now));
        this.draw();
      } else if (down.size === 2) {
        const other = [...down].find(([id]) => id !== event.pointerId)[1];
        const gap = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]) || 1;
        this.zoom(gap(now) / gap(before), other[0], other[1]);
      } else this.move(now[0] - before[0], now[1] - before[1]);
      down.set(event.pointerId, now);
    });
    const up = (event) => {
      if (!down.delete(event.pointerId)) return;
      if (this.tracing) {
        this.tracing = false;
        const loop = this.loop, most = 300, every = Math.ceil(loop.length / most);
        if (loop.length > 5) this.onLasso(loop.filter((_, k) => k % every === 0).map(([x, y]) => [x, 1 - y]));
        else this.loop = null;
      } else if (far < 6 * this.ratio && event.type === "pointerup") {
        const i = this.nearest(...at(event));
        if (i >= 0) this.open(i);
      }
    };
    canvas.addEventListener("pointerup", up);
    canvas.addEventListener("pointercancel", up);
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY / 400), ...at(event));
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => {
      const step = 60 * this.ratio;
      const moves = { ArrowLeft: [step, 0], ArrowRight: [-step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
      if (moves[event.key]) this.move(...moves[event.key]);
      else if (event.key === "+" || event.key === "=") this.zoom(1.4);
      else if (event.key === "-") this.zoom(1 / 1.4);
      else if (event.key === "0") { this.home(); this.draw(); }
      else if (event.key === "Enter") {
        const i = this.nearest(canvas.width / 2, canvas.height / 2);
        if (i >= 0) this.open(i);
      } else return;
      event.preventDefault();
      event.stopPropagation();
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  legend() {
    const facet = this.facets?.find((f) => f.name === state.colour);
    if (!facet) return [];
    if (facet.kind === "number") return [`${facet.name}: blue ${+facet.low.toPrecision(3)}, orange ${+facet.high.toPrecision(3)}`];
    return facet.values.slice(0, HUES.length).map((value, k) => {
      const box = document.createElement("canvas");
      box.width = box.height = 10;
      const pen = box.getContext("2d");
      pen.fillStyle = `rgb(${HUES[k].join(",")})`;
      pen.fillRect(0, 0, 10, 10);
      return el("span", {}, box, ` ${value}${k === HUES.length - 1 && facet.values.length > HUES.length ? " and others" : ""}`);
    });
  }
}
