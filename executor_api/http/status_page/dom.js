// Builds and changes elements. Whatever comes from the service becomes text, never markup.

const SVG = "http://www.w3.org/2000/svg";

export const one = (selector, within = document) => within.querySelector(selector);

export const element = (name, attributes = {}, ...children) =>
  filled(document.createElement(name), attributes, children);

export const svg = (name, attributes = {}, ...children) =>
  filled(document.createElementNS(SVG, name), attributes, children);

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

// Only what has changed: a selection, and what a screen reader has read, stays.
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
  return node;
}

// A notice is hidden while there is none.
export function tell(node, text) {
  say(node, text).hidden = !text;
}

// As many children as there are items, each made once by `make` and kept while its item's key is there, so that the
// keyboard's focus stays where it is; `update` gets each child with its item.
export function keep(parent, items, keyOf, make, update) {
  const known = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  const wanted = new Set(items.map((item) => String(keyOf(item))));
  for (const [key, child] of known) if (!wanted.has(key)) child.remove();
  items.forEach((item, place) => {
    const key = String(keyOf(item));
    const child = known.get(key) ?? make(item);
    child.dataset.key = key;
    if (parent.children[place] !== child) parent.insertBefore(child, parent.children[place] ?? null);
    update(child, item);
  });
}

// A table's body from rows of cells: the first heads its row, the others are figures.
export function rows(body, found) {
  keep(
    body,
    found,
    (cells) => cells[0],
    ([, ...figures]) =>
      element("tr", {}, element("th", { scope: "row" }), ...figures.map(() => element("td", { class: "number" }))),
    (row, cells) => cells.forEach((cell, column) => say(row.children[column], cell)),
  );
}

// A list of terms and what they are. Pairs without a second are left out.
export function facts(list, pairs) {
  keep(
    list,
    pairs.filter(([, value]) => value !== "" && value !== null && value !== undefined),
    ([name]) => name,
    ([name]) => element("div", {}, element("dt", {}, name), element("dd")),
    (item, [, value]) => say(item.lastChild, String(value)),
  );
}

export function sentences(list, found) {
  keep(
    list,
    found.map((text, place) => [place, text]),
    ([place]) => place,
    () => element("li"),
    (item, [, text]) => say(item, text),
  );
}
