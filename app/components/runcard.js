// The card of one run; see runcard.py. Puts the run's address into the address bar.
const card = element.querySelector(".lens-run");
const part = (name) => element.querySelector(name);
let view = null;
let offered = ""; // the buttons that are there

function show(next) {
  view = next && next.id ? next : null;
  card.hidden = !view;
  lens.place("finetune", "run=" + (view ? view.id : ""));
  if (!view) return;
  card.dataset.run = view.id;
  card.dataset.state = view.state;
  part("h2").textContent = view.name;
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
  const wanted = view.id + view.actions.map((action) => action.name).join();
  if (wanted === offered) return; // a button under the pointer stays
  offered = wanted;
  const run = view.id;
  const buttons = view.actions.map(({ name, label }) => button(label, () => {
    if (name === "delete") lens.chooseRun("");
    trigger("act", { run, action: name });
  }));
  const link = button("Copy link", async () => {
    const copied = await lens.copy(location.href);
    link.textContent = copied ? "Copied" : "Copy it from the address bar";
    setTimeout(() => (link.textContent = "Copy link"), 1600);
  });
  part(".lens-actions").replaceChildren(...buttons, link);
}

function button(label, run) {
  const made = Object.assign(document.createElement("button"), { type: "button", textContent: label });
  made.addEventListener("click", run);
  return made;
}

watch("value", () => show(props.value));
show(props.value);
