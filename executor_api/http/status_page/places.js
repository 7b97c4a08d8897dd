// The parts of the page that show one answer of the service each.

import { Refused, Silent, ask, now } from "./api.js";
import { element, keep, one, say, sentences, tell } from "./dom.js";
import { clock, count, duration } from "./words.js";

const REFUSED = 403;
const NO_KEY = 401;

// A section that shows what `ask` finds. What the caller may not see is said there once, and not asked for again.
export class Place {
  #ask;
  #section;
  #show;
  #closed = false;

  constructor(ask, section, show) {
    this.#ask = ask;
    this.#section = section;
    this.#show = show;
  }

  // What came of it: {came: "answered", "silent", or "key" with the reason why another is needed}.
  async refresh() {
    if (this.#closed) return {};
    try {
      const found = await this.#ask();
      this.#say("");
      this.#show(found);
      return { came: "answered" };
    } catch (error) {
      if (error instanceof Silent) return { came: "silent" };
      if (!(error instanceof Refused)) throw error;
      if (error.status === NO_KEY) return { came: "key", why: error.message };
      this.#closed = error.status === REFUSED;
      this.#say(this.#closed ? `Not for this key: ${error.message}.` : `It can’t be told now: ${error.message}.`);
      return { came: "answered" };
    }
  }

  #say(text) {
    tell(one(".notice", this.#section), text);
    one(".content", this.#section).hidden = this.#closed;
  }
}

export function showCalls(live, ended) {
  listed(one("#live"), live.executions, (call) => duration(Math.max(0, now() - Date.parse(call.created_at))));
  listed(one("#ended"), ended.executions, (call) => duration(call.timings_ms.total));
  const more = live.next_cursor ? ` (the latest ${live.executions.length} of more)` : "";
  say(one("#live caption"), `Running and waiting${more}`);
  one("#live-none").hidden = live.executions.length > 0;
  one("#ended-none").hidden = ended.executions.length > 0;
}

function listed(table, calls, took) {
  table.hidden = !calls.length;
  keep(one("tbody", table), calls, (call) => call.id, madeRow, (row, call) => {
    const [name, status, accepted, time] = row.children;
    const labels = Object.entries(call.labels).map((pair) => pair.join("="));
    say(name.lastChild, [call.template, ...labels].join(" · "));
    say(status, call.reason ?? (call.cancel_requested && call.status !== "succeeded" ? "cancelling" : call.status));
    status.className = `status ${call.status}`;
    say(accepted, clock(call.created_at));
    say(time, took(call));
  });
}

const madeRow = (call) =>
  element(
    "tr",
    {},
    element("th", { scope: "row" }, element("a", { href: `#call/${call.id}` }, call.id), element("span", { class: "small" })),
    element("td"),
    element("td", { class: "time" }),
    element("td", { class: "number" }),
  );

export function showPools({ pools }) {
  const content = one("#pool .content");
  keep(
    content,
    pools.length ? pools : [{ template: "" }],
    (pool) => pool.template,
    (pool) =>
      pool.template
        ? element("div", { class: "pool" }, element("h3"), element("p", { class: "problems" }), element("ul"))
        : element("p", { class: "none" }, "There are none here."),
    (node, pool) => {
      if (!pool.template) return;
      say(node.children[0], `${pool.template}: ${count(pool.ready)} of ${count(pool.desired)} ready`);
      say(node.children[1], pool.problems.length ? "Something keeps it from its size." : "");
      sentences(node.children[2], pool.sentences);
    },
  );
}

// Whether calls can run. Everybody may ask that, and a service that is not ready answers, too.
export async function refreshHealth() {
  try {
    const { ready, problems } = await ask("readyz", { also: 503 });
    showHealth(ready ? "Ready for calls" : "Not ready for calls", ready, problems);
    return { came: "answered" };
  } catch (error) {
    if (!(error instanceof Silent || error instanceof Refused)) throw error;
    return { came: "silent" };
  }
}

export function showHealth(text, good, problems = []) {
  say(one("#health"), text).className = good ? "good" : "bad";
  one("#problems").hidden = !problems.length;
  sentences(one("#problems"), problems);
}
