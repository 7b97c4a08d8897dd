// One call: where it is or how it ended, why, and what it prints while it prints it.

import { Refused, Silent, ask, events } from "./api.js";
import { facts, one, say, sentences } from "./dom.js";
import { Log } from "./log.js";
import { bytes, clock, count, duration } from "./words.js";

const ENDED = new Set(["succeeded", "failed", "cancelled"]);
const OLD = "The service does not answer; what is here may be old.";
const AGAIN = 3000; // milliseconds before a broken stream is asked for again

export class Call {
  #place = one("#call");
  #log = new Log(one("#log"));
  #reading = null; // aborts the stream
  #known = {}; // what is known of the call
  #done = false; // whether its last event is here
  #soon = null; // timer of the next explanation
  id = "";

  constructor() {
    one("#cancel").addEventListener("click", () => this.#cancel());
  }

  open(id) {
    this.close();
    this.id = id;
    this.#known = { id };
    this.#done = false;
    this.#log.clear();
    say(one("#call-heading"), `Call ${id}`);
    say(one("#call-notice"), "");
    say(one("#call-summary"), "");
    say(one("#call-said"), "");
    sentences(one("#call-sentences"), []);
    this.#place.hidden = false;
    this.#show();
    one("#call-heading").focus();
    this.explain();
    this.#read();
  }

  close() {
    this.#reading?.abort();
    this.#place.hidden = true;
    const id = this.id;
    this.id = "";
    return id;
  }

  get unfinished() {
    return this.id !== "" && !this.#done;
  }

  // What is known of it from elsewhere: a line of the list.
  hear(execution) {
    if (execution.id !== this.id || !this.unfinished) return;
    Object.assign(this.#known, execution);
    this.#show();
  }

  // Soon, so that a burst of events asks once.
  explain() {
    this.#soon ??= setTimeout(() => {
      this.#soon = null;
      if (this.id) this.#explain(this.id);
    }, 50);
  }

  async #explain(id) {
    try {
      const found = await ask(`executions/${id}/explain`);
      if (id !== this.id) return;
      say(one("#call-summary"), found.summary);
      sentences(one("#call-sentences"), found.sentences);
      this.#answered();
    } catch (error) {
      if (id === this.id) this.#trouble(error);
    }
  }

  async #read() {
    const { id } = this;
    const reading = (this.#reading = new AbortController());
    let after = 0;
    while (!reading.signal.aborted && this.unfinished) {
      try {
        let number = 0;
        for await (const event of events(`executions/${id}/events?after=${after}`, reading.signal)) {
          if (reading.signal.aborted) return;
          after = event.id ?? after;
          number += 1;
          this.#answered();
          this.#take(event);
        }
        if (!number && ENDED.has(this.#known.status)) this.#done = true; // it has no more to tell
        if (this.unfinished) await rest(AGAIN);
      } catch (error) {
        if (reading.signal.aborted) return;
        this.#trouble(error);
        if (!(error instanceof Silent)) return;
        await rest(AGAIN);
      }
    }
  }

  #take({ event, data }) {
    if (event === "stdout" || event === "stderr") {
      this.#log.print(event, data.text ?? decoded(data.base64));
    } else if (event === "gap") {
      this.#log.note(`${count(data.dropped_bytes)} bytes of ${data.stream} are left out here`);
    } else if (event === "artifact") {
      this.#log.note(`brought back: ${data.path}, ${bytes(data.size)}`);
    } else if (event === "status") {
      Object.assign(this.#known, data, { at: undefined });
      this.#log.note(`${clock(data.at)} ${data.status}${data.note ? `: ${data.note}` : ""}`);
      say(one("#call-said"), `This call is ${data.status}.`);
      this.explain();
    } else if (event === "finished") {
      [this.#known, this.#done] = [data, true];
      const ending = `${data.status}${data.reason ? ` (${data.reason})` : ""}`;
      this.#log.note(`${clock(data.finished_at)} ${ending}`);
      say(one("#call-said"), `This call has ended: ${ending}.`);
      say(one("#call-notice"), "");
      this.explain();
    }
    this.#show();
  }

  #show() {
    const call = this.#known;
    const { dropped } = this.#log;
    one("#cancel").hidden = !this.unfinished || call.status === undefined;
    one("#cancel").disabled = call.cancel_requested === true;
    say(one("#cancel"), call.cancel_requested ? "Cancelling …" : "Cancel this call");
    say(
      one("#log-note"),
      dropped
        ? `${count(dropped)} earlier lines are not shown; executor-api get ${this.id} has what was kept.`
        : "out: stdout, err: stderr. Times are those of this browser.",
    );
    facts(one("#call-facts"), [
      ["Status", call.status],
      ["Reason", call.reason],
      ["Message", call.message],
      ["Exit code", call.exit_code],
      ["Signal", call.signal],
      ["Sandbox", call.sandbox ? [call.start, call.sandbox.name, call.sandbox.node].filter(Boolean).join(", ") : ""],
      ["Template", call.template],
      ["Labels", Object.entries(call.labels ?? {}).map((pair) => pair.join("=")).join(", ")],
      ["Accepted", call.created_at && clock(call.created_at)],
      ["Took", call.timings_ms?.total && duration(call.timings_ms.total)],
      ["Printed", printed(call)],
      ["CPU time", call.usage && duration(call.usage.cpu_seconds * 1000)],
      ["Peak memory", call.usage && bytes(call.usage.peak_memory_bytes)],
      ["Left behind", call.processes?.left_behind ? left(call.processes) : ""],
    ]);
  }

  async #cancel() {
    if (!window.confirm(`Cancel call ${this.id}?`)) return;
    try {
      await ask(`executions/${this.id}`, { method: "DELETE" });
      if (this.unfinished) this.#known.cancel_requested = true;
      this.#show();
    } catch (error) {
      this.#trouble(error);
    }
  }

  #trouble(error) {
    if (!(error instanceof Refused) && !(error instanceof Silent)) throw error;
    say(one("#call-notice"), error instanceof Silent ? OLD : sentence(error.message));
  }

  // What it refused stays said.
  #answered() {
    const notice = one("#call-notice");
    if (notice.textContent === OLD) say(notice, "");
  }
}

function printed({ stdout_bytes: out, stderr_bytes: err }) {
  return out || err ? `${bytes(out)} to stdout, ${bytes(err)} to stderr` : "";
}

const left = ({ left_behind: all, zombies, unkillable }) =>
  `${all} processes, all ended${zombies ? `; ${zombies} were zombies` : ""}`.replace(
    "all ended",
    unkillable ? `${unkillable} of which can’t be ended (D state)` : "all ended",
  );

const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}.`;

const decoded = (text) => new TextDecoder().decode(Uint8Array.from(atob(text), (character) => character.charCodeAt(0)));

const rest = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
