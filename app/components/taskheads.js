// Heads that two tasks disagree about: a map and a list; see taskheads.py. A click leads to the head in Look closer.
const card = element.querySelector(".lens-taskheads");
const host = element.querySelector(".lens-taskheads-map");
const part = (name) => element.querySelector(name);
const map = lens.heatmap(host, { pick });
let view = null;

function show(next) {
  view = next && next.key ? next : null;
  card.hidden = !view;
  if (!view) return;
  part("h2").textContent = view.title;
  part(".lens-sub").textContent = view.subtitle;
  part(".lens-says").textContent = view.sentence;
  part(".lens-explains").textContent = view.note;
  part(".lens-explains").hidden = !view.note;
  const drawn = Boolean(view.map);
  part(".lens-taskheads-two").hidden = !drawn;
  part(".lens-actions").hidden = !drawn;
  if (!drawn) return;
  map.pin(null);
  map.draw(view.map, {
    title: "answers − drawings, by rank",
    scale: "difference",
    unit: "difference of ranks",
    rowTitle: "head",
    columnTitle: "layer",
    height: 300,
    widest: 40,
    label: "Heads by layers: rank among answers less rank among drawings. Arrow keys move, Enter looks closer.",
    empty: "Point at a head to read it.",
    says: describe,
  });
  part("tbody").replaceChildren(...view.rows.map(makeRow));
  card.dataset.drawn = view.key; // tests wait for this
}

const of = (task, head, layer) => view.tasks[task][head * view.map.columns + layer];
const signed = (value) => (value > 0 ? "+" : "") + value.toFixed(2).replace("-", "−");

function describe(head, layer, value) {
  const [drawing, answering] = ["generation", "understanding"].map((task) => of(task, head, layer).toFixed(2));
  return `Layer ${layer + 1}, head ${head + 1}: drawing ${drawing}, answering ${answering}, ${signed(value)} in rank`;
}

// Where a head can be looked at: in a capture of the task that it leans to, else in one of the other; "" for nowhere.
function find(head, layer) {
  const tasks = ["understanding", "generation"];
  if (view.map.values[head * view.map.columns + layer] < 0) tasks.reverse();
  const id = tasks.map((task) => view.captures[task]).find(Boolean);
  const order = `sort=${tasks[0] === "understanding" ? "und" : "gen"}` + (view.measurement ? "&tasks=" + view.measurement : "");
  return id ? `capture=${id}&closer=heads&head=${layer + 1}.${head + 1}&${order}` : "";
}

function pick([head, layer]) {
  const query = find(head, layer);
  if (query) location.href = lens.address(lens.withTheme(query));
  else map.pin([head, layer]);
}

function makeRow([layer, head]) {
  const row = document.createElement("tr");
  const name = `layer ${layer + 1}, head ${head + 1}`;
  const query = find(head, layer);
  const first = document.createElement("td");
  first.append(query ? Object.assign(document.createElement("a"), { textContent: name, href: lens.address(lens.withTheme(query)) }) : name);
  const apart = view.map.values[head * view.map.columns + layer];
  const numbers = [of("generation", head, layer).toFixed(2), of("understanding", head, layer).toFixed(2), signed(apart)];
  row.append(first, ...numbers.map((textContent) => Object.assign(document.createElement("td"), { textContent })));
  for (const [event, cell] of [["mouseenter", [head, layer]], ["mouseleave", null]]) row.addEventListener(event, () => map.pin(cell));
  return row;
}

lens.mapActions(
  part(".lens-actions"),
  () => ({ title: view.title, words: view.subtitle + " " + view.sentence, stem: view.stem, maps: [map] }),
  () => view.link,
);
watch("value", () => show(props.value));
show(props.value);
