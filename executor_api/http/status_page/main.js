// Asks again and again while somebody looks, and says so when nobody answers.

import { ask, key } from "./api.js";
import { Call } from "./call.js";
import { element, keep, one, say, tell } from "./dom.js";
import { drawCharts, showHour } from "./hour.js";
import { Place, refreshHealth, showCalls, showHealth, showPools } from "./places.js";
import { clock, duration } from "./words.js";

const PAUSE = 3000; // milliseconds between rounds
const BEAT = 15000; // between lists of ended calls, for whose results the service reads much, while none is seen to end
const SAID = 30000; // so long it stays there that the service is back
const QUIET = 30000; // one that has not for so long, while others have, is said to be silent
const FORGOTTEN = 120000; // a replica that has not answered for so long is shown no more

const LIVE = "executions?status=running&status=starting&status=queued&limit=100";
const ENDED = "executions?status=succeeded&status=failed&status=cancelled&limit=20";

const board = one("#board");
const call = new Call();
const opened = Date.now();
const contact = { answered: null, lost: null, back: null }; // when it last answered, fell silent, came back
const replicas = new Map(); // what each has told: {status, heard}
let chosen = null;
let timer = null;
let busy = false;
let keyless = false; // whether it waits for a key
let listed = null; // the latest list of ended calls, {ids, at, ended}: with which calls live, and when

const places = [
  new Place(calls, one("#calls"), ([live, ended]) => {
    showCalls(live, ended);
    for (const execution of [...live.executions, ...ended.executions]) call.hear(execution);
  }),
  new Place(() => ask("pool"), one("#pool"), showPools),
  new Place(() => ask("status"), one("#hour"), hear),
];

// Those that live, and those that ended: asked for again when one lives no more, or after a while.
async function calls() {
  const live = await ask(LIVE);
  const ids = new Set(live.executions.map(({ id }) => id));
  const same = listed && [...listed.ids].every((id) => ids.has(id)) && Date.now() - listed.at < BEAT;
  if (same) listed.ids = ids;
  else listed = { ids, at: Date.now(), ended: await ask(ENDED) };
  return [live, listed.ended];
}

async function round() {
  clearTimeout(timer);
  if (busy || keyless || document.hidden) return;
  busy = true;
  try {
    const first = await places[0].refresh(); // alone: without a key one refusal is enough
    const rest = first.came === "key" ? [] : [refreshHealth(), ...places.slice(1).map((place) => place.refresh())];
    const found = [first, ...(await Promise.all(rest))];
    tellContact(found.some(({ came }) => came === "answered" || came === "key"));
    const refused = found.find(({ came }) => came === "key");
    if (refused) {
      askForKey(refused.why);
      return; // nothing is asked again before there is another
    }
    if (contact.lost === null) show();
    if (call.unfinished) call.explain();
  } catch (error) {
    say(one("#contact"), `This page could not show what the service answers: ${error.message}.`).className = "bad";
    contact.back = Date.now(); // until it has been well for a while
    console.info(error);
  } finally {
    busy = false;
    if (!keyless) timer = setTimeout(round, PAUSE);
  }
}

function show() {
  if (!board.hidden) return;
  board.hidden = false;
  one("#forget").hidden = !key.get();
  draw();
  route();
}

function tellContact(answered) {
  const time = Date.now();
  const place = one("#contact");
  if (answered) {
    if (contact.lost !== null) {
      say(place, `The service answers again, after ${duration(time - contact.lost)}.`).className = "good";
      contact.back = time;
    } else if (contact.back !== null && time - contact.back > SAID) {
      say(place, "");
      contact.back = null;
    }
    [contact.answered, contact.lost] = [time, null];
  } else if (contact.lost === null) {
    contact.lost = contact.answered ?? opened;
    const old = contact.answered ? " What is shown is from then." : "";
    say(
      place,
      `The service has not answered since ${clock(contact.lost)}.${old} It is asked again every ${PAUSE / 1000} seconds.`,
    ).className = "bad";
    showHealth("Does not answer", false);
  }
}

function askForKey(why) {
  keyless = true;
  board.hidden = true;
  one("#key").hidden = false;
  say(one("#key-note"), key.get() ? `That one is refused: ${why.split(": ")[0]}.` : "This service asks who calls.");
  key.forget();
  one("#key-text").focus();
}

one("#key form").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = one("#key-text").value.trim();
  if (!/^[\x21-\x7e]+$/.test(text)) {
    say(one("#key-note"), "A key has letters, digits and signs of ASCII only, and no space.");
    return;
  }
  key.set(text);
  location.reload(); // nothing stays that another key has shown
});

one("#forget").addEventListener("click", () => {
  key.forget();
  location.reload();
});

function hear(status) {
  const time = Date.now();
  replicas.set(status.replica, { status, heard: time });
  for (const [name, { heard }] of replicas) if (time - heard > FORGOTTEN) replicas.delete(name);
  if (!replicas.has(chosen)) chosen = status.replica;
  const names = [...replicas.keys()].sort();
  keep(
    one("#replicas"),
    names,
    (name) => name,
    (name) => element("option", { value: name }, name),
    (option, name) => {
      option.selected = name === chosen;
    },
  );
  one("#others").hidden = names.length < 2;
  draw();
}

function draw() {
  if (!replicas.has(chosen)) return;
  const { status, heard } = replicas.get(chosen);
  showHour(status);
  tell(
    one("#now-notice"),
    Date.now() - heard > QUIET
      ? `This replica has not answered since ${clock(heard)}, others have. What is shown of it is from then.`
      : "",
  );
  say(one("#replica"), `Replica ${status.replica}: ${status.version}, ${status.backend}, as of ${clock(status.at)}.`);
}

one("#replicas").addEventListener("change", (event) => {
  chosen = event.target.value;
  draw();
});

function route() {
  const found = /^#call\/([0-9A-Za-z]{1,64})$/.exec(location.hash);
  if (found && found[1] !== call.id) {
    call.open(found[1]);
  } else if (!found && call.id) {
    const id = call.close();
    (one(`#calls a[href="#call/${id}"]`) ?? one("#calls")).focus();
  }
}

addEventListener("hashchange", () => {
  if (!board.hidden) route();
});
addEventListener("resize", () => {
  const status = replicas.get(chosen)?.status;
  if (status && !board.hidden) drawCharts(status);
});
document.addEventListener("visibilitychange", round);
round();
