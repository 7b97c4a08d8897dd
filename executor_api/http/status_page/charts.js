// Charts of up to sixty minutes as SVG. Each says what it shows as text; the page's table has all figures.

import { svg } from "./dom.js";
import { count, duration, minuteOf } from "./words.js";

const MINUTES = 60;
const HEIGHT = 132;
const EDGE = { top: 8, right: 4, bottom: 20, left: 46 };
const MINUTE = 60000;

// Bars of two parts, one on the other: `good(minute)` below, `bad(minute)` above.
export function bars(box, minutes, good, bad, label) {
  const most = Math.max(1, ...minutes.map((minute) => good(minute) + bad(minute)));
  const ground = frame(box, minutes, label, linear(most), count);
  const width = ground.step * 0.72;
  for (const minute of minutes) {
    const x = ground.x(minute) - width / 2;
    const middle = ground.y(good(minute));
    const top = ground.y(good(minute) + bad(minute));
    if (good(minute)) ground.add("rect", { class: "good", x, y: middle, width, height: ground.y(0) - middle });
    if (bad(minute)) {
      ground.add("rect", { class: "bad", x, y: top, width, height: middle - top });
      for (let y = top + 1; y < middle - 1; y += 4) {
        ground.add("path", { class: "hatch", d: `M${x} ${Math.min(y + 3, middle)} L${x + width} ${y}` });
      }
    }
  }
}

// Lines, with a gap where `value(minute)` is null. Those of times have a scale on which each step is ten times the last.
export function lines(box, minutes, series, label, times = false) {
  const values = minutes.flatMap((minute) => series.map(({ value }) => value(minute))).filter((value) => value !== null);
  const scale = times ? logarithmic(values) : linear(Math.max(1, ...values));
  const ground = frame(box, minutes, label, scale, times ? duration : count);
  for (const { name, value } of series) {
    let path = "";
    minutes.forEach((minute, place) => {
      if (value(minute) === null) return;
      const [x, y] = [ground.x(minute), ground.y(value(minute))];
      const begins = !place || value(minutes[place - 1]) === null;
      const ends = place === minutes.length - 1 || value(minutes[place + 1]) === null;
      path += `${begins ? "M" : "L"}${x} ${y}`;
      if (begins && ends) ground.add("circle", { class: `dot ${name}`, cx: x, cy: y, r: 2 });
    });
    ground.add("path", { class: `line ${name}`, d: path });
  }
}

function linear(most) {
  const size = 10 ** Math.floor(Math.log10(most));
  const top = [1, 2, 5, 10].map((factor) => factor * size).find((value) => value >= most);
  const middle = top / 2;
  return { at: (value) => value / top, ticks: Number.isInteger(middle) ? [0, middle, top] : [0, top] };
}

function logarithmic(values) {
  const low = Math.floor(Math.log10(Math.max(0.1, Math.min(...values, 10))));
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...values, 100))));
  const decades = Array.from({ length: high - low + 1 }, (_, place) => low + place);
  const every = Math.ceil(decades.length / 4);
  return {
    at: (value) => (Math.log10(Math.max(value, 10 ** low)) - low) / (high - low),
    ticks: decades.filter((decade) => (high - decade) % every === 0).map((decade) => 10 ** decade),
  };
}

// The empty chart with its two axes; the present minute is at the right.
function frame(box, minutes, label, scale, say) {
  const width = Math.max(box.clientWidth, 200);
  const step = (width - EDGE.left - EDGE.right) / MINUTES;
  const last = Date.parse(minutes.at(-1).at);
  const place = (at) => width - EDGE.right - step / 2 - ((last - at) / MINUTE) * step;
  const y = (value) => HEIGHT - EDGE.bottom - scale.at(value) * (HEIGHT - EDGE.top - EDGE.bottom);
  const chart = svg("svg", { role: "img", "aria-label": label, width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}` });
  const add = (name, attributes, ...children) => chart.append(svg(name, attributes, ...children));
  for (const tick of scale.ticks) {
    add("path", { class: "grid", d: `M${EDGE.left} ${y(tick)}H${width - EDGE.right}` });
    add("text", { x: EDGE.left - 6, y: y(tick) + 4, "text-anchor": "end" }, say(tick));
  }
  for (const ago of [59, 45, 30, 15, 0]) {
    const at = last - ago * MINUTE;
    const anchor = ago === 59 ? "start" : ago ? "middle" : "end";
    const x = ago === 59 ? EDGE.left : ago ? place(at) : width - EDGE.right;
    add("text", { x, y: HEIGHT - 4, "text-anchor": anchor }, minuteOf(new Date(at)));
  }
  box.replaceChildren(chart);
  return { x: (minute) => place(Date.parse(minute.at)), y, step, add };
}
