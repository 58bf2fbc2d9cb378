// Sends decisions in order, one request at a time, and keeps them until they are acknowledged.

const STORE = "sfhq-unsent";
export const MOST_WAITING = 50;

export async function ask(path, body) {
  const options = body === undefined ? {} : {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  };
  const answer = await fetch(path, { ...options, cache: "no-store", signal: AbortSignal.timeout(30000) }).catch(() => {
    throw new Error("the server does not answer");
  });
  const value = await answer.json();
  if (!answer.ok) {
    const problem = new Error(value.error ?? `the server answered ${answer.status}`);
    problem.status = answer.status;
    throw problem;
  }
  return value;
}

export class Outbox {
  constructor(place, tell) {
    this.key = `${STORE}-${place}`;
    this.tell = tell;
    this.waiting = [];
    this.busy = false;
    try {
      this.waiting = JSON.parse(localStorage.getItem(this.key)) ?? [];
    } catch {
      this.waiting = [];
    }
    addEventListener("beforeunload", (event) => {
      if (this.waiting.length) event.preventDefault();
    });
  }

  get full() {
    return this.waiting.length >= MOST_WAITING * 4;
  }

  put(annotator, answers) {
    this.waiting.push(...answers.map((answer) => ({ annotator, answer })));
    this.#save();
    this.#send();
  }

  #save() {
    localStorage.setItem(this.key, JSON.stringify(this.waiting));
    this.tell(this.waiting.length, null);
  }

  async #send() {
    if (this.busy) return;
    this.busy = true;
    let pause = 250;
    while (this.waiting.length) {
      const { annotator } = this.waiting[0];
      const some = [];
      for (const one of this.waiting) {
        if (one.annotator !== annotator || some.length === 100) break;
        some.push(one.answer);
      }
      try {
        const done = await ask("/api/labels", { annotator, answers: some });
        this.waiting.splice(0, some.length);
        this.#save();
        this.tell(this.waiting.length, null, done);
        pause = 250;
      } catch (problem) {
        this.tell(this.waiting.length, problem);
        if (problem.status === 400) {
          // The server will never accept this one: say so, drop it, keep the others.
          this.waiting.splice(0, 1);
          this.#save();
          continue;
        }
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

// Images that are decoded before anybody asks for them.
export class Images {
  constructor(most = 64) {
    this.most = most;
    this.images = new Map();
  }

  address(face, size = 512) {
    return `/image/${encodeURIComponent(face)}?size=${size}`;
  }

  get(face, size = 512) {
    const key = `${face} ${size}`;
    const known = this.images.get(key);
    if (known) {
      this.images.delete(key);
      this.images.set(key, known);
      return known;
    }
    const image = new Image();
    image.alt = "face to judge";
    image.src = this.address(face, size);
    const entry = { image };
    // An image that did not come is asked for again the next time.
    entry.ready = image.decode().then(() => true, () => {
      if (this.images.get(key) === entry) this.images.delete(key);
      return false;
    });
    this.images.set(key, entry);
    if (this.images.size > this.most) this.images.delete(this.images.keys().next().value);
    return entry;
  }
}
