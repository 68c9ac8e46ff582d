// Heads: a map of all heads, of one capture or of two; a list of them in an order; one of them, pinned, over the steps and
// on the picture. See app/closer/heads.py and tasks.py.
const part = (name) => element.querySelector(name);
const LETTERS = ["A", "B"];
const UNIT = { understanding: "of its attention on the image", generation: "of its attention on the text" };
const HEIGHT = 300;
const ORDERS = { "": "most attention", change: "changed most, A − B", layer: "most unlike their layer", und: "answers, not drawings", gen: "drawings, not answers" };
const CHOOSE = "Choose a capture of the same task under “Compare with” to see which heads changed.";
part(".lens-view-body").innerHTML = `
  <div class="lens-maps"><div data-map="0"></div><div data-map="1"></div><div data-map="difference"></div><div data-map="tasks"></div></div>
  <div class="lens-heads-controls">
    <label>Heads by <select class="lens-heads-sort"></select></label>
    <label class="lens-heads-from">from <select></select></label>
    <label>Find <input type="search" placeholder="3.2, layer 3, > 0.4" maxlength="60" /></label>
  </div>
  <p class="lens-heads-said" aria-live="polite"></p>
  <div class="lens-heads-list"></div>
  <section class="lens-pinned" aria-label="The pinned head" hidden></section>`;
const sortInput = part(".lens-heads-sort"), fromInput = part(".lens-heads-from select"), findInput = part("input[type=search]");
sortInput.replaceChildren(...Object.entries(ORDERS).map(([value, text]) => new Option(text, value)));
const maps = {};
for (const host of element.querySelectorAll("[data-map]")) maps[host.dataset.map] = lens.heatmap(host, { pick });
const list = lens.headList(part(".lens-heads-list"), { pick });
const head = lens.pinnedHead(part(".lens-pinned"));
const hostOf = (name) => element.querySelector(`[data-map="${name}"]`);
let data = null;
let tasks = null; // heads of both tasks, where the order asks for them
let front = null;

const get = (key) => lens.closer.get(key);
const pinned = () => {
  const found = /^(\d+)\.(\d+)$/.exec(get("head"));
  return found ? [found[2] - 1, found[1] - 1] : null; // "layer.head" → [row, column]
};

function pick([head, layer]) {
  const name = `${layer + 1}.${head + 1}`;
  lens.closer.set({ head: get("head") === name ? "" : name });
}

function show(next) {
  data = next;
  draw();
  order();
  head.show(front);
}

// --- all heads ---

function draw() {
  if (!data || !front) return;
  const { captures, definitions, note } = data;
  const chosen = definitions[front.definition];
  part("h2").textContent = "Heads";
  part(".lens-sub").textContent =
    "Every cell is one head: the share of attention that crosses to the other modality, mean over the steps. Click one to pin it.";
  part(".lens-says").textContent = chosen.sentence;
  part(".lens-explains").textContent = note;
  part(".lens-explains").hidden = !note;
  const alone = captures.length === 1;
  captures.forEach(({ task, name }, i) => {
    const title = alone ? name : `${LETTERS[i]}: ${name}`;
    drawOne(String(i), captures[i].empty ? null : chosen.maps[i], { title, scale: task, unit: UNIT[task] });
  });
  if (alone) drawOne("1", null);
  drawOne("difference", chosen.difference, { title: "A − B", scale: "difference", unit: "difference of shares" });
  drawTasks();
}

function drawTasks() {
  drawOne("tasks", byTask() && tasks ? tasks.difference : null, { title: "answers − drawings, by rank", scale: "difference", unit: "difference of ranks" });
  part(".lens-maps").classList.toggle("lens-alone", data.captures.length === 1 && hostOf("tasks").hidden);
}

function drawOne(name, map, about) {
  const host = hostOf(name);
  host.hidden = !map;
  if (!map) return;
  maps[name].pin(pinned());
  maps[name].draw(map, {
    ...about,
    rowTitle: "head",
    columnTitle: "layer",
    height: HEIGHT,
    label: `${about.title}: heads by layers. Arrow keys move, Enter pins.`,
    empty: "Point at a head to read it.",
    says: (head, layer, value) => `Layer ${layer + 1}, head ${head + 1}: ${Number.isFinite(value) ? `${value.toFixed(3)} ${about.unit}` : "no step that counts"}`,
  });
}

// --- in an order ---

const byTask = () => ["und", "gen"].includes(get("sort"));

// Fetches what the order needs beside the maps, then lists the heads.
async function order() {
  if (!data || !front) return;
  const sort = get("sort") in ORDERS ? get("sort") : "";
  sortInput.value = sort;
  if (document.activeElement !== findInput) findInput.value = get("find");
  part(".lens-heads-from").hidden = !byTask();
  let sentence = "";
  const mine = [front.id, front.with, front.definition, sort, get("tasks")].join();
  if (byTask()) {
    try {
      const values = { definition: front.definition, ...(get("tasks") ? { tasks: get("tasks") } : {}) };
      const found = await lens.closer.read("head-tasks", values);
      [tasks, sentence] = found.choices.length ? [found, ""] : [null, found.sentence];
    } catch (error) {
      [tasks, sentence] = [null, error.message];
    }
    if (mine !== [front.id, front.with, front.definition, sortInput.value, get("tasks")].join()) return;
    fillFrom();
  }
  drawTasks();
  listHeads(sort, sentence);
}

function fillFrom() {
  const known = tasks ? tasks.choices : [];
  part(".lens-heads-from").hidden = !known.length;
  fromInput.replaceChildren(...known.map(({ id, name }) => new Option(name, id)));
  if (tasks) fromInput.value = tasks.chosen;
}

function listHeads(sort, sentence) {
  const found = sentence ? { sentence } : valuesOf(sort);
  let heads = [], said = found.sentence || "";
  if (found.map) {
    const whole = cellsOf(found);
    try {
      heads = whole.filter(lens.findHeads(get("find"))).sort((a, b) => (found.size ? Math.abs(b.value) - Math.abs(a.value) : b.value - a.value) || a.layer - b.layer || a.head - b.head);
    } catch (error) {
      said = error.message;
    }
    if (!said || heads.length) list.draw({ heads, high: found.map.high, scale: found.scale, pinned: pinned(), label: `Heads by ${ORDERS[sort]}`, whole: whole.length });
  }
  part(".lens-heads-list").hidden = !found.map || (Boolean(said) && !heads.length);
  part(".lens-heads-said").textContent = said;
  part(".lens-heads-said").hidden = !said;
  part(".lens-heads-controls").hidden = data.captures[0].empty !== "";
}

// What an order goes by: { map, scale, size (the sign does not matter), flip, more(row, column), sentence }.
function valuesOf(sort) {
  const chosen = data.definitions[front.definition], first = chosen.maps[0];
  if (data.captures[0].empty) return {};
  if (sort === "change") {
    if (!chosen.difference) return { sentence: data.note || CHOOSE };
    return { map: lens.unpackMap(chosen.difference), scale: "difference", size: true, more: moreOf(...chosen.maps.map(lens.unpackMap), ["A", "B"]) };
  }
  if (sort === "layer") return { map: beyondLayer(lens.unpackMap(first)), scale: "difference", size: true };
  if (sort !== "") {
    const both = [tasks.understanding, tasks.generation].map(lens.unpackMap);
    return { map: lens.unpackMap(tasks.difference), scale: "difference", flip: sort === "gen", more: moreOf(...both, ["image", "text"]), sentence: `${tasks.sentence} Rank: the share of all heads that give less. ${tasks.note}` };
  }
  return { map: lens.unpackMap(first), scale: data.captures[0].task };
}
const moreOf = (a, b, [first, second]) => (row, column) =>
  `${first} ${lens.mapValue(a, row, column).toFixed(2)}, ${second} ${lens.mapValue(b, row, column).toFixed(2)}`;

function beyondLayer(map) {
  const values = new Float64Array(map.codes.length);
  for (let column = 0; column < map.columns; column++) {
    let mean = 0;
    for (let row = 0; row < map.rows; row++) mean += lens.mapValue(map, row, column) / map.rows;
    for (let row = 0; row < map.rows; row++) values[row * map.columns + column] = lens.mapValue(map, row, column) - mean;
  }
  return lens.unpackMap({ ...map, codes: undefined, low: -map.high, values });
}

function cellsOf({ map, flip, more }) {
  return Array.from(map.codes, (_, at) => {
    const head = Math.floor(at / map.columns), layer = at % map.columns, value = lens.mapValue(map, head, layer);
    return { layer, head, value: flip ? -value : value, more: more && more(head, layer) };
  }).filter(({ value }) => Number.isFinite(value));
}

sortInput.addEventListener("change", () => lens.closer.set({ sort: sortInput.value }));
fromInput.addEventListener("change", () => lens.closer.set({ tasks: fromInput.value }));
findInput.addEventListener("input", () => lens.closer.set({ find: findInput.value.trim() }));

// --- taking along ---

const shown = () => Object.values(maps).filter((map) => map.current().map && !map.current().host.hidden);
lens.mapActions(part(".lens-actions"), () => ({
  title: ["Heads", front.definition, head.title().toLowerCase()].filter(Boolean).join(" · "),
  words: `${part(".lens-says").textContent} ${head.says()}`.trim(),
  stem: `aia-lens-heads-${front.id.slice(0, 8)}-${front.definition}`,
  maps: [...shown(), ...head.pieces()],
}));

lens.onCapture((next) => {
  const again = front && data && next.id === front.id && next.with === front.with;
  front = next;
  if (again) [draw(), order(), head.show(front)]; // another definition of the same data
});
lens.closer.onSet((keys) => {
  if (!data || !front) return;
  if (keys.includes("head")) {
    Object.values(maps).forEach((map) => map.pin(pinned()));
    listHeads(sortInput.value, byTask() && !tasks ? part(".lens-heads-said").textContent : "");
  }
  if (keys.some((key) => ["head", "fed", "closer"].includes(key))) head.show(front);
  if (keys.some((key) => ["sort", "tasks", "find"].includes(key))) order();
});
lens.closer.add("heads", element, { show });
