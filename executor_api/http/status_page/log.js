// What one call prints, line by line: the last lines only, and of each line its beginning.

import { element } from "./dom.js";

const MOST_LINES = 1000;
const MOST_CHARACTERS = 2000;
const PAUSE = 100; // milliseconds between changes of the page
const AT_END = 24; // pixels

export class Log {
  #box;
  #lines = []; // {kind, text, more, node}
  #open = {}; // by kind: its last line, if that has no end yet
  #changed = new Set();
  #timer = null;
  dropped = 0; // lines that are not shown any more

  constructor(box) {
    this.#box = box;
  }

  clear() {
    clearTimeout(this.#timer);
    [this.#lines, this.#open, this.#changed, this.#timer, this.dropped] = [[], {}, new Set(), null, 0];
    this.#box.replaceChildren();
  }

  // What stdout or stderr goes on with.
  print(kind, text) {
    const parts = text.split("\n");
    parts.forEach((part, place) => {
      const ends = place < parts.length - 1;
      if (!ends && !part) return;
      this.#open[kind] ??= this.#begin(kind);
      this.#extend(this.#open[kind], part);
      if (ends) this.#open[kind] = null;
    });
  }

  // A line of our own.
  note(text) {
    this.#extend(this.#begin("note"), text);
  }

  #begin(kind) {
    const line = { kind, text: "", more: 0, node: null };
    this.#lines.push(line);
    if (this.#lines.length > MOST_LINES) {
      const gone = this.#lines.shift();
      this.#changed.delete(gone);
      if (this.#open[gone.kind] === gone) this.#open[gone.kind] = null;
      gone.node?.remove();
      this.dropped += 1;
    }
    return line;
  }

  #extend(line, text) {
    const room = Math.max(0, MOST_CHARACTERS - line.text.length);
    line.text += text.slice(0, room);
    line.more += Math.max(0, text.length - room);
    this.#changed.add(line);
    this.#timer ??= setTimeout(() => this.#show(), PAUSE);
  }

  #show() {
    this.#timer = null;
    const box = this.#box;
    const follows = box.scrollHeight - box.scrollTop - box.clientHeight < AT_END;
    const fresh = document.createDocumentFragment();
    for (const line of this.#changed) {
      line.node ??= fresh.appendChild(made(line.kind));
      line.node.lastChild.textContent = shown(line);
    }
    this.#changed.clear();
    box.append(fresh);
    if (follows) box.scrollTop = box.scrollHeight;
  }
}

const NAMES = { stdout: "out", stderr: "err", note: "" };

const made = (kind) =>
  element(
    "div",
    { class: `line ${kind}` },
    element("span", { class: "stream" }, NAMES[kind]),
    " ",
    element("span", { class: "text" }),
  );

function shown({ text, more }) {
  const marked = text.replace(/[\u0000-\u0008\u000a-\u001f\u007f]/g, (character) =>
    character === "\u007f" ? "\u2421" : String.fromCharCode(0x2400 + character.charCodeAt(0)),
  );
  return more ? `${marked} … and ${more.toLocaleString("en")} more characters` : marked;
}
