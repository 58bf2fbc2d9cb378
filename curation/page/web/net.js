// Asks the server, with the token; sends decisions in order and keeps them until they are
// acknowledged; decodes images ahead.

// Names the part's folder: what the browser keeps of one part never goes to the server of another.
export const place = document.querySelector("meta[name=sfhq-place]").content;
const TOKEN = `sfhq-token-${place}`;
const MOST_WAITING = 200;
const TOGETHER = 100;
// The server will never accept such a request; after other errors it is sent again.
const HOPELESS = [400, 413, 415];

// The token comes behind the "#" of the address, and leaves the address bar at once.
const given = new URLSearchParams(location.hash.slice(1)).get("token");
if (given) {
  localStorage.setItem(TOKEN, given);
  history.replaceState(null, "", location.pathname);
}
let leaving = false;
addEventListener("hashchange", () => {
  // A new address in an old page: it may be that of another part.
  leaving = true;
  location.reload();
});

// Read each time: another page may have got the token of a server that was started anew.
const headers = () => ({ "x-sfhq-token": localStorage.getItem(TOKEN) ?? "" });

function stored(key, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(key)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

export async function ask(path, body, more = {}) {
  const options = body === undefined ? { headers: headers() } : {
    method: "POST",
    headers: { ...headers(), "content-type": "application/json" },
    body: JSON.stringify(body),
  };
  const signal = AbortSignal.timeout(30000);
  const answer = await fetch(path, { ...options, cache: "no-store", signal, ...more }).catch(() => {
    throw new Error("the server does not answer");
  });
  const value = await answer.json().catch(() => null);
  if (!answer.ok || !value) {
    const problem = new Error(value?.error ?? `the server answered ${answer.status}`);
    problem.status = answer.status;
    throw problem;
  }
  return value;
}

export class Outbox {
  // tell(problem, done, refused) is called after each change.
  constructor(tab, tell) {
    this.tab = tab;
    this.tell = tell;
    this.key = `sfhq-unsent-${place}-${tab}`;
    this.refusedKey = `sfhq-refused-${place}`;
    this.waiting = [];
    this.busy = false;
    this.#adopt();
    addEventListener("beforeunload", (event) => {
      if (this.waiting.length && !leaving) event.preventDefault();
    });
  }

  // What pages left behind that are closed by now. If one is still open, both send the same
  // decisions, and the server stores each once.
  #adopt() {
    const keys = Object.keys(localStorage).filter((k) => k.startsWith(`sfhq-unsent-${place}-`));
    for (const key of keys.filter((k) => k !== this.key)) {
      const left = stored(key, []);
      if (Array.isArray(left)) this.waiting.push(...left);
    }
    this.#save();
    for (const key of keys.filter((k) => k !== this.key)) localStorage.removeItem(key);
  }

  get full() {
    return this.waiting.length >= MOST_WAITING;
  }

  // Decisions that the server refused, with the reason, until the person forgets them.
  get refused() {
    return stored(this.refusedKey, []);
  }

  #setRefused(list) {
    if (list.length) localStorage.setItem(this.refusedKey, JSON.stringify(list));
    else localStorage.removeItem(this.refusedKey);
  }

  put(annotator, answers) {
    this.waiting.push(...answers.map((answer) => ({ annotator, answer })));
    this.#save();
    this.tell(null, null, []);
    this.#send();
  }

  again() {
    const list = this.refused;
    this.#setRefused([]);
    this.waiting.push(...list.map(({ annotator, answer }) => ({ annotator, answer })));
    this.#save();
    this.tell(null, null, []);
    this.#send();
  }

  forget() {
    this.#setRefused([]);
    this.tell(null, null, []);
  }

  #save() {
    if (this.waiting.length) localStorage.setItem(this.key, JSON.stringify(this.waiting));
    else localStorage.removeItem(this.key);
  }

  // Takes the first of those waiting away: stored, or set aside with the reason why not.
  #settle(results) {
    const lost = [];
    for (const [i, one] of this.waiting.slice(0, results.length).entries()) {
      const why = results[i]?.refused ?? (results[i]?.number ? null : "the server did not say");
      if (why !== null) lost.push({ ...one, why });
    }
    // An undo of what was not stored: nothing is missing.
    const known = [...this.refused, ...lost];
    const moot = new Set(lost.map((one) => one.answer?.undo).filter((id) => id && known.some((k) => k.answer?.client === id)));
    const kept = known.filter(({ answer }) => !moot.has(answer?.undo) && !moot.has(answer?.client));
    this.#setRefused(kept); // before they leave the other list: at no time are they in neither
    this.waiting.splice(0, results.length);
    this.#save();
    return lost;
  }

  async #send() {
    if (this.busy) return;
    this.busy = true;
    let pause = 250;
    let alone = 0; // this many are sent one by one, to find those that make a request hopeless
    while (this.waiting.length) {
      const { annotator } = this.waiting[0];
      const some = [];
      for (const one of this.waiting) {
        if (one.annotator !== annotator || some.length === (alone ? 1 : TOGETHER)) break;
        some.push(one.answer);
      }
      let problem = null;
      let done = null;
      try {
        done = await ask("/api/labels", { annotator, tab: this.tab, answers: some });
        if (!Array.isArray(done.results)) problem = new Error("the server did not say what it stored");
      } catch (error) {
        problem = error;
      }
      if (!problem) {
        alone = Math.max(alone - 1, 0);
        pause = 250;
        this.tell(null, done, this.#settle(some.map((_, i) => done.results[i])));
      } else if (HOPELESS.includes(problem.status)) {
        if (some.length === 1) {
          alone = Math.max(alone - 1, 0);
          this.tell(null, null, this.#settle([{ refused: problem.message }]));
        } else alone = some.length;
      } else {
        this.tell(problem, null, []);
        await new Promise((resolve) => setTimeout(resolve, pause));
        pause = Math.min(pause * 2, 5000);
      }
    }
    this.busy = false;
  }

  async drained() {
    this.#send();
    while (this.waiting.length || this.busy) await new Promise((r) => setTimeout(r, 10));
  }
}

// Loads an image with the token into an element. Gives "" when it is decoded, else why not.
export async function load(image, path) {
  let address = "";
  try {
    const answer = await fetch(path, { headers: headers() }).catch(() => null);
    if (!answer) return "The server does not answer; the image comes when it is back.";
    if (answer.status === 401) return "The server was started anew; open the address that it printed.";
    if (!answer.ok) return "This image cannot be shown; skip it, and run the stage that made it again.";
    address = URL.createObjectURL(await answer.blob());
    image.src = address;
    await image.decode();
    image.alt = "face to judge";
    return "";
  } catch {
    return "This image did not come whole; it is asked for again.";
  } finally {
    URL.revokeObjectURL(address); // the element has it now
  }
}

// Images that are decoded before anybody asks for them.
export class Images {
  constructor(most = 64) {
    this.most = most;
    this.images = new Map();
  }

  // The element, and a promise of what `load` gives.
  get(face, size = 512) {
    const key = `${face} ${size}`;
    const known = this.images.get(key);
    if (known) {
      this.images.delete(key);
      this.images.set(key, known);
      return known;
    }
    const image = new Image();
    image.alt = ""; // until there is something to see
    const entry = { image };
    // An image that did not come is asked for again the next time.
    entry.ready = load(image, `/image/${encodeURIComponent(face)}?size=${size}`).then((why) => {
      if (why && this.images.get(key) === entry) this.images.delete(key);
      return why;
    });
    this.images.set(key, entry);
    if (this.images.size > this.most) this.images.delete(this.images.keys().next().value);
    return entry;
  }
}
