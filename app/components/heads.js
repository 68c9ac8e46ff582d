// Heads: a map of all heads, of one capture or of two; a list of them in an order; one of them, pinned, over the steps and
// on the picture. See app/closer/heads.py and tasks.py.
const part = (name) => element.querySelector(name);
const LETTERS = ["A", "B"];
const UNIT = { understanding: "of its attention on the image", generation: "of its attention on the text" };
const COLUMN = { understanding: "word of the answer", generation: "patch, in the order drawn" };
const COLOUR = { understanding: "--lens-und", generation: "--lens-gen" };
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
  <section class="lens-pinned" aria-label="The pinned head" hidden>
    <div class="lens-row"><h3></h3><div class="lens-tools"></div></div>
    <p class="lens-pinned-says" aria-live="polite"></p>
    <div class="lens-maps">
      <div data-curve="0"></div><div data-curve="1"></div>
      <div data-head-look="0"></div><div data-head-look="1"></div><div data-head-look="difference"></div>
    </div>
  </section>`;
const sortInput = part(".lens-heads-sort"), fromInput = part(".lens-heads-from select"), findInput = part("input[type=search]");
sortInput.replaceChildren(...Object.entries(ORDERS).map(([value, text]) => new Option(text, value)));
const maps = {}, curves = {}, looks = {};
for (const host of element.querySelectorAll("[data-map]")) maps[host.dataset.map] = lens.heatmap(host, { pick });
for (const host of element.querySelectorAll("[data-curve]")) curves[host.dataset.curve] = lens.stepCurve(host);
for (const host of element.querySelectorAll("[data-head-look]")) looks[host.dataset.headLook] = lens.patchMap(host, { pick: pickPatch });
const list = lens.headList(part(".lens-heads-list"), { pick });
const hostOf = (kind, name) => element.querySelector(`[data-${kind}="${name}"]`);
let data = null;
let tasks = null; // heads of both tasks, where the order asks for them
let front = null;
let turn = 0; // the last pinned head asked for

const get = (key) => lens.closer.get(key);
const pinned = () => {
  const found = /^(\d+)\.(\d+)$/.exec(get("head"));
  return found ? [found[2] - 1, found[1] - 1] : null; // "layer.head" → [row, column]
};

function pick([head, layer]) {
  const name = `${layer + 1}.${head + 1}`;
  lens.closer.set({ head: get("head") === name ? "" : name });
}

function pickPatch(patch) {
  if (patch !== null) lens.closer.set({ closer: "space", patch: patch + 1, word: "", play: "" });
}

function show(next) {
  data = next;
  draw();
  order();
  showPinned();
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
  part(".lens-maps").classList.toggle("lens-alone", data.captures.length === 1 && hostOf("map", "tasks").hidden);
}

function drawOne(name, map, about) {
  const host = hostOf("map", name);
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

// --- the pinned head ---

part(".lens-pinned .lens-tools").append(
  lens.button("See it in Space", () => lens.closer.set({ closer: "space" })),
  lens.button("Unpin", () => lens.closer.set({ head: "" })),
);

async function showPinned() {
  const mine = ++turn, section = part(".lens-pinned");
  section.hidden = !pinned();
  if (section.hidden || !data || lens.closer.inFront() !== "heads") return;
  const head = get("head"), [h, l] = pinned();
  part("h3").textContent = `Head ${h + 1} of layer ${l + 1}`;
  let found, sentence = "";
  try {
    found = (await lens.closer.read("head", { head, definition: front.definition, ...(get("fed") ? { fed: get("fed") } : {}) })).captures;
  } catch (error) {
    sentence = error.message;
  }
  if (mine !== turn) return;
  drawCurves(found || [], sentence);
  const shown = part(".lens-pinned-says").textContent;
  let seen;
  try {
    seen = await Promise.all([lens.closer.read("space-map", { head }), lens.closer.read("space")]);
  } catch (error) {
    sentence = error.message;
  }
  if (mine !== turn) return;
  const says = await drawLooks(seen);
  if (mine === turn) part(".lens-pinned-says").textContent = [shown.replace(LOOKING, "").trim(), seen ? says : sentence].filter(Boolean).join(" ");
  section.dataset.drawn = [front.id, get("with"), head].join("|"); // tests wait for this
}
const LOOKING = " Looking at its map …";

function drawCurves(found, sentence) {
  const letter = (i) => (found.length > 1 ? `${LETTERS[i]}: ` : "");
  part(".lens-pinned-says").textContent = (sentence || found.map((one, i) => letter(i) + (one.error || one.empty || one.sentence)).join(" ")) + LOOKING;
  const whole = found.map((one) => one.curves && lens.unpackMap(one.curves));
  const high = Math.max(0.02, ...whole.filter(Boolean).map((map) => map.high));
  for (const i of [0, 1]) {
    hostOf("curve", i).hidden = !whole[i] || !whole[i].columns || Boolean(found[i].empty);
    if (!hostOf("curve", i).hidden) curves[i].draw(curveOf(found[i], whole[i], high, letter(i)));
  }
}

function curveOf(capture, map, high, letter) {
  const { task, tokens, grid, prefill } = capture;
  const values = (row) => Array.from({ length: map.columns }, (_, step) => lens.mapValue(map, row, step));
  const [own, layer] = [values(0), values(1)];
  const nameOf = (step) => (task === "understanding" ? `word ${step + 1} “${tokens[step].text}”` : `patch in row ${Math.floor(step / grid[1]) + 1}, column ${(step % grid[1]) + 1}`);
  const number = (value) => (Number.isFinite(value) ? value.toFixed(3) : "not fed back");
  return {
    title: `${letter}step by step`,
    lines: [
      { name: "its layer, mean of heads", values: layer, colour: "--lens-before", width: 1.4 },
      { name: "this head", values: own, colour: COLOUR[task], width: 2 },
    ],
    high,
    unit: UNIT[task],
    columnTitle: COLUMN[task],
    columnPlaces: nameOf,
    after: prefill && map.columns > 1 ? 0 : undefined,
    empty: "Point at a step to read it.",
    label: `${letter}the pinned head and its layer, step by step. Arrow keys move.`,
    says: (step) => `${nameOf(step)}: head ${number(own[step])}, layer ${number(layer[step])}`,
  };
}

// → a sentence on where it looks. `seen`: [slices, space], as Space fetches them.
async function drawLooks(seen) {
  for (const name of Object.keys(looks)) hostOf("head-look", name).hidden = true;
  if (!seen) return "";
  const [{ slices }, { captures, note }] = seen;
  const found = captures.map((capture, i) => (capture.empty || slices[i].error ? null : { ...capture, values: meanLook(capture, slices[i]) }));
  const pictures = await Promise.all(found.map((one) => one && load(one.picture)));
  const highs = found.map((one) => Math.max(1e-9, ...(one ? one.values.filter(Number.isFinite) : [])));
  const common = captures.every(({ task }) => task === captures[0].task); // of two tasks each has a scale of its own
  found.forEach((one, i) => one && drawLook(i, one, pictures[i], common ? Math.max(...highs) : highs[i], found.length > 1 ? `${LETTERS[i]}: ` : ""));
  if (found.length > 1 && found.every(Boolean) && !note) drawLookDifference(...found);
  const said = captures.map((capture, i) => sayLook(found[i], capture.empty || slices[i].error));
  return new Set(said).size === 1 ? said[0] : said.map((words, i) => `${LETTERS[i]}: ${words}`).join(" ");
}

async function load(url) {
  const image = new Image();
  image.src = url;
  await image.decode();
  return image;
}

// An answer: the mean of its words on each patch. A drawing: each patch on the prompt's words.
function meanLook({ task, rows, grid }, slice) {
  const cross = lens.unpackMap(slice.cross), rowOf = rows[Number(get("fed") === "1")];
  const at = (row, column) => lens.mapValue(cross, row, column);
  if (task === "generation") return rowOf.map((row) => (row < 0 ? NaN : Array.from({ length: cross.columns }, (_, word) => at(row, word)).reduce((a, b) => a + b, 0)));
  const looking = rowOf.filter((row) => row >= 0);
  return Array.from({ length: grid[0] * grid[1] }, (_, patch) => looking.reduce((sum, row) => sum + at(row, patch), 0) / Math.max(1, looking.length));
}

const frameOf = ({ grid, values }) => ({ grid, values, out: new Set(), chosen: new Set(), smooth: false, made: null, rests: null });
const placeOf = ({ grid }, patch) => `row ${Math.floor(patch / grid[1]) + 1}, column ${(patch % grid[1]) + 1}`;
const LOOK = { understanding: "where it looked, mean of words", generation: "how much each patch looked at the prompt" };

function drawLook(i, one, picture, high, letter) {
  const unit = one.task === "understanding" ? "of a word's attention" : "of a patch's attention";
  hostOf("head-look", i).hidden = false;
  looks[i].draw({
    ...frameOf(one), picture, low: 0, high, scale: "share", unit,
    title: letter + LOOK[one.task],
    label: `${letter}${LOOK[one.task]}. Arrow keys move, Enter goes to Space.`,
    says: (patch, value) => `${placeOf(one, patch)}: ${lens.readNumber(value)} ${unit}`,
  });
}

function drawLookDifference(a, b) {
  const values = a.values.map((value, patch) => value - b.values[patch]), unit = "difference of attention";
  const high = Math.max(1e-9, ...values.filter(Number.isFinite).map(Math.abs));
  hostOf("head-look", "difference").hidden = false;
  looks.difference.draw({
    ...frameOf({ ...a, values }), picture: null, low: -high, high, scale: "difference", unit, title: "A − B",
    label: "Difference of where the head looked. Arrow keys move.",
    says: (patch, value) => `${placeOf(a, patch)}: ${lens.readNumber(value)} ${unit}`,
  });
}

function sayLook(one, sentence) {
  if (!one) return sentence;
  let best = 0;
  one.values.forEach((value, patch) => value > one.values[best] && (best = patch));
  const most = `${placeOf(one, best)} (${lens.readNumber(one.values[best])})`;
  return one.task === "understanding" ? `On the picture it looks most at ${most}.` : `Of all patches, ${most} looked most at the prompt.`;
}

// A patch map as part of a file, as it stands on the page; see heatmap.js.
function pieceOf(look) {
  const { shown, size, host } = look.current();
  return {
    title: shown.title,
    width: size.width,
    height: size.height + 18,
    draw(pen, theme, x, y) {
      pen.image(x, y, size.width, size.height, host.querySelector("canvas"));
      lens.patchLegend(shown).forEach((colour, i) => pen.rect(x + 60 + i * 3, y + size.height + 8, 3.2, 9, colour));
      const ends = [...host.querySelectorAll(".lens-patch-legend span")].map((span) => span.textContent);
      pen.text(x + 54, y + size.height + 17, ends[0], theme.soft, { anchor: "end" });
      pen.text(x + 164, y + size.height + 17, `${ends[1]}  ${shown.unit}`, theme.soft);
    },
    table: () => ({
      kind: "patches",
      head: ["map", "row", "column", "attention"],
      rows: shown.values.map((value, patch) => [shown.title, Math.floor(patch / shown.grid[1]) + 1, (patch % shown.grid[1]) + 1, Number.isFinite(value) ? value.toFixed(6) : ""]),
    }),
  };
}

// --- taking along ---

const shown = () => Object.values(maps).filter((map) => map.current().map && !map.current().host.hidden);
function pieces() {
  if (part(".lens-pinned").hidden) return shown();
  const lines = Object.entries(curves).filter(([i]) => !hostOf("curve", i).hidden).map(([, curve]) => curve);
  const seen = Object.entries(looks).filter(([i, look]) => !hostOf("head-look", i).hidden && look.current().shown);
  return [...shown(), ...lines, ...seen.map(([, look]) => ({ piece: () => pieceOf(look) }))];
}
lens.mapActions(part(".lens-actions"), () => ({
  title: "Heads · " + front.definition + (pinned() ? ` · ${part("h3").textContent.toLowerCase()}` : ""),
  words: [part(".lens-says").textContent, pinned() ? part(".lens-pinned-says").textContent : ""].join(" ").trim(),
  stem: `aia-lens-heads-${front.id.slice(0, 8)}-${front.definition}`,
  maps: pieces(),
}));

lens.onCapture((next) => {
  const again = front && data && next.id === front.id && next.with === front.with;
  front = next;
  if (again) [draw(), order(), showPinned()]; // another definition of the same data
});
lens.closer.onSet((keys) => {
  if (!data || !front) return;
  if (keys.includes("head")) {
    Object.values(maps).forEach((map) => map.pin(pinned()));
    listHeads(sortInput.value, byTask() && !tasks ? part(".lens-heads-said").textContent : "");
  }
  if (keys.some((key) => ["head", "fed", "closer"].includes(key))) showPinned();
  if (keys.some((key) => ["sort", "tasks", "find"].includes(key))) order();
});
lens.closer.add("heads", element, { show });
