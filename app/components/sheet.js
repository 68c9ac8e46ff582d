// Samples at a step; see sheet.py.
const card = element.querySelector(".lens-sheet");
const table = element.querySelector("table");
const part = (name) => element.querySelector(name);
const FAILED = "could not be loaded; reload the page";
let known = new Map(); // by "key step", what is being fetched or was
let view = null;
let turn = 0; // of the newest drawing: an older one that is still fetching must not win

function show(next) {
  if (!view || !next || next.key !== view.key) known = new Map();
  view = next && next.key ? next : null;
  card.hidden = !view;
  if (!view) return;
  part("h2").textContent = view.title;
  part(".lens-sub").textContent = view.subtitle;
  draw();
}

// The newest moment up to the step that the slider stands at; the last one where no slider is.
function chosen() {
  const at = lens.scrubbed(view.key);
  const until = view.moments.filter(({ step }) => at === null || step <= at);
  return until.length ? until[until.length - 1] : view.moments[0];
}

function fetchCells(key, step) {
  const name = key + " " + step;
  if (!known.has(name)) {
    const asking = server.fetch_cells({ key, step }).then((found) => found.cells);
    known.set(name, asking);
    asking.catch(() => known.delete(name));
  }
  return known.get(name);
}

async function draw() {
  const mine = ++turn;
  const shown = view;
  const now = chosen();
  const other = view.others.find(({ step }) => step === now.step);
  const none = Promise.resolve([]);
  try {
    const [asked, before, at, control] = await Promise.all([
      fetchCells(view.key, "asked"),
      fetchCells(view.key, view.moments[0].step),
      fetchCells(view.key, now.step),
      other ? fetchCells(view.control, other.step) : none,
    ]);
    if (mine !== turn) return;
    const first = shown.moments[0];
    const columns = [[first.step ? first.label : "before", before, ""], [now.label, at, ""]];
    if (shown.control) columns.push(["control, " + now.label, control, other ? "" : "not there yet"]);
    fill(shown, asked, columns);
    say(shown, now, other);
    card.dataset.drawn = shown.key + ":" + now.step; // tests wait for this
  } catch (error) {
    if (mine === turn) part(".lens-says").textContent = "The samples " + FAILED + ".";
    console.warn(error);
  }
}

function say(shown, now, other) {
  const capital = now.label[0].toUpperCase() + now.label.slice(1);
  const parts = [`${capital}: ${now.says}.`];
  if (now.step !== shown.moments[0].step) parts.push(`Before: ${shown.moments[0].says}.`);
  if (other) parts.push(`Control: ${other.says}.`);
  const text = now.says ? parts.join(" ") : "";
  if (part(".lens-says").textContent !== text) part(".lens-says").textContent = text; // said aloud once
  part(".lens-says").hidden = !text;
}

function fill(shown, asked, columns) {
  const heads = ["asked", "wanted", ...columns.map(([name]) => name)].map((name) => cell("th", name, { scope: "col" }));
  part("thead").replaceChildren(make("tr", heads));
  const groups = [];
  shown.rows.forEach((row, i) => {
    const last = groups[groups.length - 1];
    if (!last || last.name !== row.group) groups.push({ name: row.group, accent: row.accent, rows: [] });
    groups[groups.length - 1].rows.push(makeRow(row, asked[i] || {}, columns, i));
  });
  const bodies = groups.map(({ name, accent, rows }) => {
    const head = cell("th", name, { scope: "colgroup", colSpan: 2 + columns.length });
    head.className = "lens-group lens-" + accent;
    return make("tbody", [make("tr", [head]), ...rows]);
  });
  table.querySelectorAll("tbody").forEach((body) => body.remove());
  table.append(...bodies);
}

function makeRow(row, asked, columns, i) {
  const picture = asked.url && image(asked.url, row.answer ? "asked about" : "a picture that this prompt fits");
  const question = cell("th", row.text, { scope: "row" });
  if (row.answer && picture) question.prepend(picture);
  const wanted = make("td", [row.answer || picture || ""]);
  return make("tr", [question, wanted, ...columns.map(([name, cells, missing]) => made(row, cells[i], name, missing))]);
}

function made(row, found, column, missing) {
  if (!found) return cell("td", missing, { className: "lens-faint" });
  const td = make("td", [found.url ? image(found.url, `“${row.text}”, ${column}: ${found.mark || "drawn"}`) : found.text]);
  if (found.mark) {
    const mark = cell("span", (found.good ? "✓ " : "✗ ") + found.mark, { className: found.good ? "lens-mark-good" : "lens-mark-bad" });
    td.append(mark);
  }
  return td;
}

function make(tag, children) {
  const made = document.createElement(tag);
  made.append(...children);
  return made;
}

function cell(tag, text, rest) {
  return Object.assign(document.createElement(tag), { textContent: text, ...rest });
}

function image(src, alt) {
  return Object.assign(document.createElement("img"), { src, alt, className: "lens-pixels" });
}

watch("value", () => show(props.value));
lens.onScrub((key) => view && key === view.key && draw());
show(props.value);
