// The card of one run; see runcard.py. Puts the run's address into the address bar.
const card = element.querySelector(".lens-run");
const part = (name) => element.querySelector(name);
let view = null;
let offered = ""; // the buttons that are there
const { tab, key } = card.dataset;

function show(next) {
  view = next && next.id ? next : null;
  card.hidden = !view;
  lens.place(tab, view ? view.link || key + "=" + view.id : key + "=");
  if (!view) return;
  if (renamed && renamed !== view.id) endName(false);
  card.dataset.run = view.id;
  card.dataset.state = view.state;
  part("h2").textContent = view.name;
  part(".lens-rename").hidden = Boolean(renamed) || !view.mine;
  part(".lens-chip").textContent = view.label;
  part(".lens-sub").textContent = view.about;
  part(".lens-facts").textContent = view.facts;
  part(".lens-bar i").style.width = 100 * view.share + "%";
  part(".lens-bar").setAttribute("aria-valuenow", String(Math.round(100 * view.share)));
  say(".lens-message", view.message);
  say(".lens-says", view.says);
  drawTable();
  drawActions();
  part(".lens-log").hidden = !view.log;
  part("pre").textContent = view.log;
}

function say(name, text) {
  if (part(name).textContent !== text) part(name).textContent = text; // said aloud once
  part(name).hidden = !text;
}

function drawTable() {
  part(".lens-scores").hidden = !view.table.length;
  const row = (cells, first) => {
    const tr = document.createElement("tr");
    tr.append(...cells.map((text, i) => Object.assign(document.createElement(i && !first ? "td" : "th"), { textContent: text })));
    return tr;
  };
  part("thead").replaceChildren(row(view.columns, true));
  part("tbody").replaceChildren(...view.table.map((cells) => row(cells, false)));
}

function drawActions() {
  const wanted = view.id + view.actions.map((action) => action.name).join() + view.links.map((link) => link.query).join();
  if (wanted === offered) return; // a button under the pointer stays
  offered = wanted;
  const run = view.id;
  const buttons = view.actions.map(({ name, label }) => lens.button(label, () => {
    if (name === "delete") lens.chooseRun(tab, "");
    trigger("act", { run, action: name });
  }));
  const links = view.links.map(({ label, query }) =>
    Object.assign(document.createElement("a"), { textContent: label, href: lens.address(lens.withTheme(query)) }),
  );
  part(".lens-actions").replaceChildren(...links, ...buttons, lens.copyButton(() => lens.placed(tab)));
}

// --- the name, changed in its place: Enter or leaving the field keeps it, Escape does not ---

const field = part(".lens-rename-field");
let renamed = null; // the run whose name is being changed

function beginName() {
  renamed = view.id;
  field.value = view.name;
  showName();
  field.focus();
  field.select();
}

function endName(keep) {
  const run = renamed;
  const name = field.value.trim();
  if (!run) return;
  renamed = null;
  showName();
  if (!keep || run !== view.id || name === view.name) return;
  if (name) part("h2").textContent = name; // until the server has said so
  trigger("act", { run, action: "rename", name });
}

function showName() {
  field.hidden = !renamed;
  part("h2").hidden = Boolean(renamed);
  part(".lens-rename").hidden = Boolean(renamed) || !view.mine;
}

part(".lens-rename").addEventListener("click", beginName);
field.addEventListener("blur", () => endName(true));
field.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" && event.key !== "Escape") return;
  event.preventDefault(); // else Enter would go on to the button that gets the focus
  endName(event.key === "Enter");
  part(".lens-rename").focus();
});

watch("value", () => show(props.value));
show(props.value);
