// Talks to the service. Every URL is relative to the page's own, so that a path prefix before it does not matter.

const KEY = "executor-api key";
const SECONDS = 15;

export class Silent extends Error {} // no answer, or none of the service's own

export class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (text) => sessionStorage.setItem(KEY, text),
  forget: () => sessionStorage.removeItem(KEY),
};

let ahead = 0; // milliseconds that the service's clock is ahead of ours, to the second

export const now = () => Date.now() + ahead;

// JSON of the service; `also` is a status beyond 2xx whose answer is JSON of another kind. Throws Refused and Silent.
export async function ask(path, { method = "GET", also = 200 } = {}) {
  const answer = await send(path, { method, signal: AbortSignal.timeout(SECONDS * 1000) }, also);
  try {
    return await answer.json();
  } catch {
    throw new Silent("the answer broke off");
  }
}

// Server-sent events of the service, each as {id, event, data}, until the stream ends or nothing comes for too long:
// then it throws Silent. Throws Refused too.
export async function* events(path, signal) {
  const quiet = new AbortController();
  let timer;
  const wait = () => {
    clearTimeout(timer);
    timer = setTimeout(() => quiet.abort(), 3 * SECONDS * 1000); // a heartbeat comes every 15 s
  };
  wait();
  try {
    const any = AbortSignal.any([signal, quiet.signal]);
    const answer = await send(path, { headers: { Accept: "text/event-stream" }, signal: any });
    if (answer.status === 204) return;
    yield* parsed(answer.body.pipeThrough(new TextDecoderStream()).getReader(), wait);
  } catch (error) {
    if (error instanceof Refused) throw error;
    throw new Silent("the stream broke off");
  } finally {
    clearTimeout(timer);
  }
}

async function* parsed(reader, heard) {
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    heard();
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const fields = Object.fromEntries(
        block.split("\n").map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 2)]),
      );
      if (fields.event) yield { id: fields.id, event: fields.event, data: JSON.parse(fields.data) };
    }
  }
}

async function send(path, options, also) {
  let answer;
  try {
    const headers = { Accept: "application/json", ...options.headers };
    if (key.get()) headers.Authorization = `Bearer ${key.get()}`;
    answer = await fetch(path, { ...options, headers, cache: "no-store" });
  } catch (error) {
    throw new Silent(error.message);
  }
  const date = Date.parse(answer.headers.get("date"));
  if (date) ahead = Math.abs(date - Date.now()) > 2000 ? date - Date.now() : 0;
  if (answer.ok || answer.status === also) return answer;
  const problem = await answer.json().catch(() => ({}));
  if (!problem.detail && answer.status >= 500) throw new Silent(`HTTP ${answer.status}`);
  throw new Refused(answer.status, problem.detail ?? `HTTP ${answer.status}`);
}
