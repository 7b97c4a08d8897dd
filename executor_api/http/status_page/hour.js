// The last hour of one replica: figures, charts and tables.

import { bars, lines } from "./charts.js";
import { facts, one, rows, say, tell } from "./dom.js";
import { clock, count, duration, plural, share } from "./words.js";

const MINUTES_59 = 59 * 60 * 1000;
const OLD = 2 * 60 * 1000; // looks at processes are 15 s apart, and more where there are very many

const succeeded = ({ endings }) => endings.succeeded ?? 0;
const failed = (figures) => all(figures) - succeeded(figures);
const all = ({ endings }) => Object.values(endings).reduce((sum, calls) => sum + calls, 0);
const highest = (minutes, value) => Math.max(0, ...minutes.map(value));

const known = (value) => (value === undefined ? "–" : count(value)); // nobody looked

// How old the figures of its own processes are, in words; empty while they are as new as can be.
function ageOf({ at, own }) {
  const age = own ? Date.parse(at) - Date.parse(own.looked_at) : 0;
  return age > OLD ? `${plural(Math.floor(age / 60000), "minute")} old` : "";
}

export function showHour(status) {
  const { hour, minutes, own } = status;
  const age = ageOf(status);
  const aged = age && `, ${age}`;
  for (const id of ["#now", "#own"]) one(id).hidden = false;
  say(one("#now-heading"), `Replica ${status.replica}`);
  const whole = Date.parse(status.at) - Date.parse(status.since) >= MINUTES_59;
  say(one("#hour-heading"), whole ? "The last hour" : `Since ${clock(status.since, false)}`);
  say(one("#hour-scope"), `All tenants’ calls that ended at replica ${status.replica}; other replicas have their own.`);
  const time = whole ? "in the hour" : `since ${clock(status.since, false)}`;
  facts(one("#tiles"), [
    ["Running now", `${count(status.running)} of ${count(status.max_running)}`],
    ["Waiting now", count(status.queued)],
    [`Ended ${time}`, count(all(hour))],
    ["Succeeded", share(succeeded(hour), all(hour))],
    ["Half took at most", duration(hour.total_ms.p50)],
    ["19 of 20 at most", duration(hour.total_ms.p95)],
    [`Zombies${aged}`, known(own?.zombies)],
    [`In D state${aged}`, known(own?.stuck)],
  ]);
  drawCharts(status);
  showMinutes(minutes);
  const endings = Object.entries(hour.endings).sort(([, a], [, b]) => b - a);
  rows(one("#endings tbody"), endings.map(([name, calls]) => [name, count(calls), share(calls, all(hour))]));
  one("#endings").hidden = !endings.length;
  one("#endings-none").hidden = endings.length > 0;
  rows(
    one("#starts tbody"),
    Object.entries(hour.start_ms).map(([name, { calls, p50, p95 }]) => [name, count(calls), duration(p50), duration(p95)]),
  );
  tell(
    one("#own-notice"),
    age &&
      `These figures are ${age}: no look at the processes has ended since ${clock(own.looked_at)}. ` +
        "Reading them hangs or fails; the log of the replica may say why.",
  );
  if (own) showOwn(status, age);
  else say(one("#own-sentence"), "Nobody has looked at them yet.");
}

export function drawCharts({ hour, minutes }) {
  const box = (id) => one(`${id} .chart`);
  const busiest = highest(minutes, all);
  bars(
    box("#endings-chart"),
    minutes,
    succeeded,
    failed,
    `${plural(all(hour), "call")} ended, ${count(failed(hour))} of them without success; ${count(busiest)} in the busiest minute.`,
  );
  lines(
    box("#total-chart"),
    minutes,
    [
      { name: "p95", value: ({ total_ms: { p95 } }) => p95 },
      { name: "p50", value: ({ total_ms: { p50 } }) => p50 },
    ],
    `Over the hour half of the calls took ${duration(hour.total_ms.p50)} or less, and 19 of 20 took ${duration(hour.total_ms.p95)} or less.`,
    true,
  );
  lines(
    box("#load-chart"),
    minutes,
    [
      { name: "running", value: (minute) => minute.most_running },
      { name: "queued", value: (minute) => minute.most_queued },
    ],
    `At most ${count(hour.most_running)} ran at once, and ${count(hour.most_queued)} waited for a slot.`,
  );
}

function showMinutes(minutes) {
  rows(
    one("#minutes tbody"),
    minutes.toReversed().map((minute) => [
      clock(minute.at, false),
      count(succeeded(minute)),
      count(failed(minute)),
      duration(minute.total_ms.p50),
      duration(minute.total_ms.p95),
      count(minute.most_running),
      count(minute.most_queued),
      known(minute.own?.zombies),
      known(minute.own?.stuck),
    ]),
  );
}

function showOwn({ replica, own, hour, minutes }, age) {
  const then = age ? "then" : "now";
  const most = (name) => `${count(own[name])} ${then}, ${count(highest(minutes, (minute) => minute.own?.[name] ?? 0))} at most`;
  const { left_behind: left } = hour;
  say(
    one("#own-sentence"),
    `${plural(own.processes, "process", "processes")} of replica ${replica} at ${clock(own.looked_at)}, those of ` +
      "sandboxes on its machine among them.",
  );
  facts(one("#own-facts"), [
    ["Zombies", most("zombies")],
    ["Their parents", Object.entries(own.zombies_by_parent).map((pair) => pair.join(" ")).join(", ")],
    ["In D state", most("stuck")],
    ["Longest in D state", own.stuck ? duration(own.longest_stuck_seconds * 1000) : ""],
    ["Threads", own.threads === null ? "" : count(own.threads)],
    ["Processes", most("processes")],
    ["Left by calls that ended", `${plural(left.left_behind, "process", "processes")}, ${plural(left.zombies, "zombie")}`],
    ["That could not be ended", left.unkillable ? count(left.unkillable) : ""],
  ]);
  const limits = [
    ...Object.entries(own.pids).map(([name, usage]) => [`Tasks of control group ${name}`, usage]),
    ...Object.entries(own.descriptors).map(([name, usage]) => [`Descriptors of ${name}`, usage]),
  ];
  rows(one("#limits tbody"), limits.map(([what, { used, limit }]) => [what, count(used), count(limit), share(used, limit)]));
  one("#limits").hidden = !limits.length;
  one("#limits-none").hidden = limits.length > 0;
}
