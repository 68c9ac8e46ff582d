// The table of the library; see library/page.py. Rows stay where they are while their order does: a click never misses.
const card = element.querySelector(".lens-library");
const part = (name) => element.querySelector(name);
const body = part("tbody");
const search = part("input[type=search]");
const all = part("thead input");
const TYPING_MS = 160;
const MOST = 4; // things that can be compared
let view = null;
let asked = { search: "", kind: "", sort: "made", descending: true, page: 0, open: "" };
let serial = 0;
let ticked = new Map(); // id → row, also of other pages
let typing = 0;

function show(next) {
  if (!next || !next.rows || next.serial < serial) return; // an older question's answer
  view = next;
  serial = view.serial;
  const { kind, sort, descending, page } = view;
  asked = { search: view.search, kind, sort, descending, page, open: view.detail ? view.detail.id : "" };
  if (document.activeElement !== search) search.value = view.search;
  card.dataset.state = "shown";
  say(".lens-message", view.message);
  part(".lens-undo").hidden = !view.said;
  part(".lens-undo span").textContent = view.said;
  part(".lens-undo button").hidden = !view.undo.length;
  part(".lens-scroll").hidden = !view.rows.length;
  part(".lens-foot").hidden = !view.room;
  say(".lens-empty", view.empty);
  part(".lens-found").textContent = view.found;
  part(".lens-room").textContent = view.room;
  drawChips();
  drawHeads();
  drawRows();
  drawPages();
  drawTicked();
  lens.place("library", view.link);
}

function say(name, text) {
  if (part(name).textContent !== text) part(name).textContent = text; // said aloud once
  part(name).hidden = !text;
}

// Opening a row and turning a page keep the place; anything else begins at the first page.
function ask(changes) {
  const stays = !("search" in changes) && ("open" in changes || "page" in changes);
  asked = { ...asked, ...(stays ? {} : { page: 0 }), ...changes };
  serial += 1;
  trigger("ask", { ...asked, serial });
}

function act(action, ids, text = "") {
  serial += 1;
  if (action === "delete") ids.forEach((id) => ticked.delete(id));
  trigger("act", { ...asked, serial, action, ids, text });
}

function drawChips() {
  const chips = part(".lens-pills");
  if (chips.children.length !== view.chips.length) {
    chips.replaceChildren(...view.chips.map(({ kind }) => lens.button("", () => ask({ kind }))));
  }
  view.chips.forEach(({ kind, label, count }, i) => {
    const chip = chips.children[i];
    const on = kind === view.kind;
    chip.setAttribute("role", "radio");
    chip.setAttribute("aria-checked", String(on));
    chip.tabIndex = on ? 0 : -1;
    chip.dataset.kind = kind;
    chip.innerHTML = "<span></span> <i></i>";
    chip.firstChild.textContent = label;
    chip.lastChild.textContent = count.toLocaleString("en");
  });
}

function drawHeads() {
  for (const head of element.querySelectorAll("th[data-sort]")) {
    const on = head.dataset.sort === view.sort;
    head.setAttribute("aria-sort", on ? (view.descending ? "descending" : "ascending") : "none");
  }
}

function drawRows() {
  const known = new Map([...body.querySelectorAll("tr[data-id]")].map((row) => [row.dataset.id, row]));
  const rows = view.rows.map((row) => fill(known.get(row.id) || makeRow(row.id), row));
  const open = view.detail ? rows.findIndex((row) => row.dataset.id === view.detail.id) : -1;
  if (open >= 0) rows.splice(open + 1, 0, panel);
  if (rows.length !== body.children.length || rows.some((row, i) => row !== body.children[i])) body.replaceChildren(...rows);
  if (open >= 0) fillPanel(view.detail);
}

function makeRow(id) {
  const row = make("tr");
  row.dataset.id = id;
  row.innerHTML = `<td class="lens-tick"><input type="checkbox" /></td><td class="lens-kind"></td>
    <td class="lens-named"><button type="button"></button><span></span></td>
    <td class="lens-model"></td><td class="lens-task"></td><td class="lens-made"></td><td class="lens-size"></td>`;
  const tick = row.querySelector("input");
  tick.addEventListener("change", () => choose(id, tick.checked));
  row.addEventListener("click", (event) => {
    if (!event.target.closest(".lens-tick")) ask({ open: asked.open === id ? "" : id });
  });
  return row;
}

function fill(row, { id, kind, name, about, model, task, accents, made, size }) {
  const cell = (label) => row.querySelector(label);
  cell(".lens-kind").textContent = kind;
  const button = cell("button");
  button.textContent = name;
  button.title = name;
  button.setAttribute("aria-expanded", String(Boolean(view.detail && view.detail.id === id)));
  cell(".lens-named span").textContent = about;
  cell(".lens-named span").title = about;
  cell(".lens-model").textContent = cell(".lens-model").title = model;
  cell(".lens-task").replaceChildren(...accents.map((accent) => make("b", "lens-" + accent)), task);
  cell(".lens-made").textContent = ago(made);
  cell(".lens-made").title = new Date(1000 * made).toLocaleString();
  cell(".lens-size").textContent = size;
  cell("input").checked = ticked.has(id);
  cell("input").setAttribute("aria-label", "Choose " + name);
  return row;
}

function ago(made) {
  const seconds = Math.max(0, Date.now() / 1000 - made);
  for (const [unit, length] of [["day", 86400], ["h", 3600], ["min", 60]]) {
    const count = Math.floor(seconds / length);
    if (count) return unit === "day" && count > 30 ? new Date(1000 * made).toLocaleDateString() : `${count} ${unit}${unit === "day" && count > 1 ? "s" : ""} ago`;
  }
  return "just now";
}

function drawPages() {
  const turn = (label, page) => {
    const made = lens.button(label, () => ask({ page, open: "" }));
    made.disabled = page < 0 || page >= view.pages;
    return made;
  };
  const where = make("span", "", `Page ${view.page + 1} of ${view.pages}`);
  const shown = view.pages > 1 ? [turn("Previous", view.page - 1), where, turn("Next", view.page + 1)] : [];
  part(".lens-pages").replaceChildren(...shown);
}

// --- several at once ---

function choose(id, on) {
  const row = view.rows.find((one) => one.id === id);
  if (on && row) ticked.set(id, row);
  else ticked.delete(id);
  drawTicked();
}

function drawTicked() {
  for (const row of view.rows) if (ticked.has(row.id)) ticked.set(row.id, row);
  const rows = [...ticked.values()];
  const here = view.rows.filter((row) => ticked.has(row.id)).length;
  all.checked = Boolean(here) && here === view.rows.length;
  all.indeterminate = Boolean(here) && here < view.rows.length;
  part(".lens-ticked").hidden = !rows.length;
  const bar = [make("span", "", `${rows.length} chosen`)];
  const things = [...new Set(rows.flatMap((row) => row.things))];
  if (things.length && things.length <= MOST) {
    const link = make("a", "", "Compare");
    link.href = lens.address(lens.withTheme("compare=" + things.join()));
    bar.push(link);
  }
  bar.push(lens.button("Export", (event) => save(rows.map((row) => row.id), event.currentTarget)));
  const gone = rows.filter((row) => row.deletable).map((row) => row.id);
  if (gone.length) bar.push(lens.button("Delete", () => act("delete", gone)));
  bar.push(lens.button("Choose none", () => { ticked.clear(); untick(); }));
  if (things.length > MOST) bar.push(make("span", "lens-hint", `Compare takes at most ${MOST}.`));
  part(".lens-ticked").replaceChildren(...bar);
}

function untick() {
  for (const box of body.querySelectorAll(".lens-tick input")) box.checked = ticked.has(box.closest("tr").dataset.id);
  drawTicked();
}

all.addEventListener("change", () => {
  for (const row of view.rows) all.checked ? ticked.set(row.id, row) : ticked.delete(row.id);
  untick();
});
search.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => ask({ search: search.value, open: "" }), TYPING_MS);
});
part(".lens-pills").addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  const chips = [...part(".lens-pills").children];
  if (!step) return;
  event.preventDefault();
  const next = chips[(chips.indexOf(document.activeElement) + step + chips.length) % chips.length];
  next.focus();
  next.click();
});
for (const head of element.querySelectorAll("th[data-sort]")) {
  const sort = head.dataset.sort;
  const falling = sort === "made" || sort === "size"; // the newest and the largest first
  head.firstChild.addEventListener("click", () => ask({ sort, descending: view.sort === sort ? !view.descending : falling }));
}
part(".lens-undo button").addEventListener("click", () => act("undo", view.undo));
watch("value", () => show(props.value));
show(props.value);
