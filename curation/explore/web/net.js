// Asks the server, with the token; keeps pictures, a bounded number of them.

export const place = document.querySelector("meta[name=sfhq-place]").content;
const TOKEN = `sfhq-explore-token-${place}`;
const MOST_PICTURES = 3000;
const TOGETHER = 12;

// The token comes behind the "#" of the address and leaves the address bar at once; what is left
// there is the view.
const given = new URLSearchParams(location.hash.slice(1));
if (given.get("token")) {
  localStorage.setItem(TOKEN, given.get("token"));
  given.delete("token");
  history.replaceState(null, "", `${location.pathname}${given.size ? `#${given}` : ""}`);
}

const headers = () => ({ "x-sfhq-token": localStorage.getItem(TOKEN) ?? "" });

async function request(path, body, signal) {
  const options = body === undefined ? { headers: headers() } : {
    method: "POST",
    headers: { ...headers(), "content-type": "application/json" },
    body: JSON.stringify(body),
  };
  const answer = await fetch(path, { ...options, cache: "no-store", signal }).catch((error) => {
    if (error.name === "AbortError") throw error;
    throw new Error("the server does not answer; is sfhq explore still running?");
  });
  if (!answer.ok) {
    const told = await answer.json().catch(() => null);
    throw new Error(told?.error ?? `the server answered ${answer.status}`);
  }
  return answer;
}

export const ask = async (path, signal) => (await request(path, undefined, signal)).json();
export const send = async (path, body) => request(path, body);
export const bytes = async (path, signal) => (await request(path, undefined, signal)).arrayBuffer();
export const photo = async (path) => URL.createObjectURL(await (await request(path)).blob());

export const query = (values) => new URLSearchParams(
  Object.entries(values).map(([k, v]) => [k, typeof v === "object" ? JSON.stringify(v) : String(v)]),
).toString();

// Small pictures: asked for together, given as addresses of blobs.
const kept = new Map();
let waiting = [];
let wanted = new AbortController();

// Pictures of what is not shown any more would hold up what is.
export function dropPictures() {
  wanted.abort();
  wanted = new AbortController();
}

export function small(i, size = 160) {
  const key = `${i}-${size}`;
  const found = kept.get(key);
  if (found) {
    kept.delete(key);
    kept.set(key, found);
    return found;
  }
  const made = new Promise((done, failed) => waiting.push({ i, size, done, failed, key }));
  kept.set(key, made);
  if (waiting.length === 1) queueMicrotask(flush);
  while (kept.size > MOST_PICTURES) {
    const [old, value] = kept.entries().next().value;
    kept.delete(old);
    value.then((url) => url && URL.revokeObjectURL(url), () => {});
  }
  return made;
}

function flush() {
  const all = waiting;
  waiting = [];
  for (const size of new Set(all.map((w) => w.size))) {
    const some = all.filter((w) => w.size === size);
    for (let at = 0; at < some.length; at += TOGETHER) batch(some.slice(at, at + TOGETHER), size);
  }
}

async function batch(some, size) {
  try {
    const data = await bytes(`/small?size=${size}&i=${some.map((w) => w.i).join(",")}`, wanted.signal);
    const view = new DataView(data);
    let at = 0;
    for (const one of some) {
      const length = view.getUint32(at, true);
      const blob = new Blob([new Uint8Array(data, at + 4, length)], { type: "image/jpeg" });
      one.done(length ? URL.createObjectURL(blob) : "");
      at += 4 + length;
    }
  } catch (error) {
    for (const one of some) {
      kept.delete(one.key);
      one.failed(error);
    }
  }
}
