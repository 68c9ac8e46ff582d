// The list of runs; see runs.py. Rows stay where they are when only their state changes: a click never misses.
const card = element.querySelector(".lens-runs");
const rows = element.querySelector(".lens-rows");
const part = (name) => element.querySelector(name);
const { tab } = card.dataset;
let view = null;

function show(next) {
  view = next && next.rows ? next : null;
  card.hidden = !view;
  if (!view) return;
  say(".lens-message", view.message);
  say(".lens-empty", view.rows.length ? "" : view.empty);
  part(".lens-undo").hidden = !view.undo;
  part(".lens-undo span").textContent = `“${view.undo_name}” was deleted.`;
  const known = [...rows.children].map((row) => row.dataset.run).join();
  if (known !== view.rows.map((row) => row.id).join()) rows.replaceChildren(...view.rows.map(makeRow));
  view.rows.forEach((row, i) => fill(rows.children[i], row));
}

function say(name, text) {
  part(name).hidden = !text;
  part(name).textContent = text;
}

function makeRow({ id }) {
  const row = document.createElement("button");
  row.type = "button";
  row.dataset.run = id;
  row.setAttribute("role", "radio");
  row.innerHTML = '<span class="lens-name"></span><span class="lens-about"></span><span class="lens-chip"></span><i></i>';
  row.addEventListener("click", () => choose(id));
  return row;
}

function choose(run) {
  lens.chooseRun(tab, run);
  trigger("choose", { run });
}

function fill(row, { id, name, about, state, label, share }) {
  const on = id === view.chosen;
  row.setAttribute("aria-checked", String(on));
  row.tabIndex = on || !view.chosen ? 0 : -1;
  row.dataset.state = state;
  row.querySelector(".lens-name").textContent = name;
  row.querySelector(".lens-about").textContent = about;
  row.querySelector(".lens-chip").textContent = label;
  row.querySelector("i").style.width = 100 * share + "%";
}

rows.addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (!step || !view) return;
  event.preventDefault();
  const now = [...rows.children].indexOf(document.activeElement);
  const next = rows.children[(now + step + rows.children.length) % rows.children.length];
  next.focus();
  choose(next.dataset.run);
});
part(".lens-undo button").addEventListener("click", () => {
  lens.chooseRun(tab, view.undo);
  trigger("undo", { run: view.undo });
});
watch("value", () => show(props.value));
show(props.value);
