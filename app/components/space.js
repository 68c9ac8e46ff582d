// Space: where words and patches looked, on the picture; see app/closer/space.py. What is added up is added up here.
const part = (name) => element.querySelector(name);
const card = part(".lens-view");
const LETTERS = ["A", "B"];
const LISTED = 8; // words in the list beside a map
const STEP_MS = 160; // of the player
part(".lens-view-body").innerHTML = `
  <div class="lens-space-controls">
    <label>Layers <input type="range" class="lens-space-layer" min="0" value="0" aria-label="Layer" /> <output></output></label>
    <label>Heads <select class="lens-space-head" aria-label="Head"></select></label>
    <label>Row <select class="lens-space-row" aria-label="Row"><option value="">that chose it</option><option value="1">of itself, fed in</option></select></label>
    <label><input type="checkbox" class="lens-space-sinks" /> take sinks out</label>
    <label><input type="checkbox" class="lens-space-smooth" /> smooth</label>
  </div>
  <div class="lens-space-chips"></div>
  <div class="lens-space-maps"><div data-look="0"></div><div data-look="1"></div><div data-look="difference"></div></div>
  <div class="lens-space-player">
    <button type="button" class="lens-space-play">Play</button>
    <input type="range" min="0" value="0" aria-label="Step" /> <output></output>
  </div>`;
part(".lens-tools").append(Object.assign(lens.button("Clear", () => [stop(), set({ word: "", patch: "", play: "" })]), { className: "lens-space-clear" }));
const [layerInput, headInput, rowInput] = [".lens-space-layer", ".lens-space-head", ".lens-space-row"].map(part);
const [sinksInput, smoothInput] = [".lens-space-sinks", ".lens-space-smooth"].map(part);
const playInput = part(".lens-space-player input");
const maps = {};
for (const host of element.querySelectorAll("[data-look]")) maps[host.dataset.look] = lens.patchMap(host, { pick: pickPatch });
for (const host of element.querySelectorAll("[data-look='0'], [data-look='1']")) {
  host.append(Object.assign(document.createElement("ol"), { className: "lens-space-list", hidden: true }));
}

let data = null; // what read_space says
let slices = null; // of the layer or head in front, one of each capture
let pictures = [];
let fetched = {}; // rows of earlier patches that were computed anew, by capture, slice and row
let turn = 0; // the last update asked for
let playing = 0;
let front = null;

// --- state, all of it in the address ---

const get = (key) => lens.closer.get(key);
const set = (changes) => lens.closer.set(changes);
const isFed = () => get("fed") === "1";
const step = () => Number.parseInt(get("play"), 10) || 0;
const headPinned = () => /^(\d+)\.(\d+)$/.exec(get("head"));
const sliceValues = () => (get("head") ? { head: get("head") } : get("layer") ? { layer: get("layer") } : {});
const sliceName = () => {
  const head = headPinned();
  return head ? `head ${head[2]} of layer ${head[1]}` : get("layer") ? `layer ${get("layer")}, mean of heads` : "mean of all layers and heads";
};

// "1,3-5" → places from 0.
function readPlaces(key, count) {
  const places = new Set();
  for (const piece of get(key).split(",")) {
    const [from, to = from] = piece.split("-").map(Number);
    for (let place = from; place >= 1 && place <= Math.min(to, count); place++) places.add(place - 1);
  }
  return places;
}
// As much of the places as an address of 64 characters takes.
function writePlaces(places) {
  const sorted = [...places].sort((a, b) => a - b), runs = [];
  for (const place of sorted) {
    if (runs.length && runs.at(-1)[1] === place - 1) runs.at(-1)[1] = place;
    else runs.push([place, place]);
  }
  const pieces = runs.map(([from, to]) => (from === to ? `${from + 1}` : `${from + 1}-${to + 1}`));
  while (pieces.join(",").length > 64) pieces.pop();
  return pieces.join(",");
}
function choose(places, place, add) {
  if (add && places.has(place)) places.delete(place);
  else if (add) places.add(place);
  else if (places.size === 1 && places.has(place)) places.clear();
  else [places.clear(), places.add(place)];
  return writePlaces(places);
}
function pickWord(word, add) {
  const draws = data.captures[0].task === "generation";
  stop();
  set({ word: choose(readPlaces("word", mostWords()), word, add), play: "", ...(draws ? { patch: "" } : {}) });
}
function pickPatch(patch, add) {
  const draws = data.captures[0].task === "generation";
  stop();
  if (patch === null) return set({ word: "", patch: "", play: "" });
  set({ patch: choose(readPlaces("patch", mostPatches()), patch, add), play: "", ...(draws ? { word: "" } : {}) });
}
const mostWords = () => Math.max(...data.captures.map(({ words }) => words.length));
const mostPatches = () => Math.max(...data.captures.map(({ grid }) => grid[0] * grid[1]));

// --- data ---

async function show(next) {
  data = next;
  fetched = {};
  stop();
  const [first] = data.captures;
  if (first.empty) return say(first.empty);
  pictures = await Promise.all(data.captures.map(({ picture }) => load(picture)));
  if (next === data) update();
}
async function load(url) {
  const image = new Image();
  image.src = url;
  await image.decode();
  return image;
}

async function update() {
  const mine = ++turn;
  part(".lens-sub").textContent = subtitle();
  let found, sentence = "";
  try {
    found = (await lens.closer.read("space-map", sliceValues())).slices.map(unpack);
  } catch (error) {
    sentence = error.message;
  }
  if (mine !== turn) return;
  slices = found || data.captures.map(() => ({ error: sentence }));
  draw();
}

function unpack(slice) {
  const matrix = (sent) => {
    if (!sent) return null;
    const codes = new Uint16Array(lens.bytesOf(sent.base64).buffer), values = new Float32Array(codes.length);
    for (let i = 0; i < codes.length; i++) values[i] = (codes[i] / 65534) * sent.high;
    return { columns: sent.columns, values };
  };
  return slice.error ? slice : { cross: matrix(slice.cross), earlier: matrix(slice.earlier), sinks: new Set(slice.sinks) };
}

// Rows that a capture does not hold are computed by the server, one after the other.
async function fetchRows(i, rows) {
  const mine = turn, values = sliceValues();
  const name = (row) => JSON.stringify([data.captures[i].id, values, row]);
  for (const row of rows.filter((row) => row >= 0 && !(name(row) in fetched))) {
    fetched[name(row)] = { waiting: true };
    try {
      const { slices: answers } = await lens.closer.read("space-row", { ...values, row: row + 1 });
      fetched[name(row)] = answers[i].error ? { error: answers[i].error } : { values: unpackRow(answers[i].earlier) };
    } catch (error) {
      fetched[name(row)] = { error: error.message };
    }
    if (mine === turn) draw();
  }
  return rows.filter((row) => row >= 0).map((row) => fetched[name(row)]);
}
const unpackRow = (sent) => unpack({ cross: sent, sinks: [] }).cross.values;
const rowsFetched = (i, rows) => rows.filter((row) => row >= 0).map((row) => fetched[JSON.stringify([data.captures[i].id, sliceValues(), row])]);

// --- adding up ---

const sumRows = ({ columns, values }, rows) => {
  const sums = new Float32Array(columns);
  for (const row of rows) for (let x = 0; x < columns; x++) sums[x] += values[row * columns + x];
  return [...sums];
};
const total = (values) => values.reduce((sum, value) => sum + (Number.isFinite(value) ? value : 0), 0);

// What is shown of one capture: { values of patches, shades of words, chosen, out, made, says, unit }.
function lookOf(i) {
  const capture = data.captures[i], slice = slices[i];
  if (capture.empty || slice.error) return { said: capture.empty || slice.error };
  return capture.task === "understanding" ? lookOfAnswer(capture, slice) : lookOfDrawing(i, capture, slice);
}

function lookOfAnswer(capture, slice) {
  const count = capture.grid[0] * capture.grid[1], rowOf = capture.rows[Number(isFed())];
  const words = step() ? new Set([Math.min(step(), capture.words.length) - 1]) : readPlaces("word", capture.words.length);
  const patches = readPlaces("patch", count);
  const out = get("sinks") === "out" ? slice.sinks : new Set();
  const looking = (words.size ? [...words] : capture.words.map((_, word) => word)).filter((word) => rowOf[word] >= 0);
  let values = sumRows(slice.cross, looking.map((word) => rowOf[word]));
  if (!words.size) values = values.map((value) => value / Math.max(looking.length, 1));
  if (!looking.length) values = values.map(() => NaN);
  const there = [...patches].filter((patch) => !out.has(patch));
  const shades = !patches.size ? null
    : rowOf.map((row) => (row < 0 ? NaN : there.reduce((sum, patch) => sum + slice.cross.values[row * count + patch], 0)));
  return { capture, values, words, patches, shades, out, made: null, keys: true, unit: unitOf(words.size, "word"), says: saysOfAnswer(capture, words, patches, values, shades, out, looking) };
}

function lookOfDrawing(i, capture, slice) {
  const count = capture.grid[0] * capture.grid[1], rowOf = capture.rows[Number(isFed())], at = step();
  const patches = at ? new Set([Math.min(at, count) - 1]) : readPlaces("patch", count);
  const words = patches.size ? new Set() : readPlaces("word", capture.words.length);
  const made = at ? Math.min(at, count) : null;
  if (!patches.size) {
    const columns = words.size ? [...words] : capture.words.map((_, word) => word), width = slice.cross.columns;
    const values = rowOf.map((row) => (row < 0 ? NaN : columns.reduce((sum, word) => sum + slice.cross.values[row * width + word], 0)));
    return { capture, values, words, patches, shades: null, out: new Set(), made, keys: false, unit: "of a patch's attention", says: saysOfWords(capture, words, values) };
  }
  const rows = [...patches].map((patch) => rowOf[patch]).filter((row) => row >= 0);
  const shades = rows.length ? sumRows(slice.cross, rows) : capture.words.map(() => NaN);
  const { values, note } = earlierOf(i, capture, slice, rows, count);
  const out = get("sinks") === "out" ? slice.sinks : new Set();
  return { capture, values, words, patches, shades, out, made, keys: true, unit: unitOf(patches.size, "patch"), says: saysOfPatches(capture, patches, rows, values, shades, out) + note };
}

function earlierOf(i, capture, slice, rows, count) {
  if (slice.earlier) return { values: rows.length ? sumRows(slice.earlier, rows) : new Array(count).fill(NaN), note: "" };
  const known = rowsFetched(i, rows);
  if (playing) return { values: new Array(count).fill(NaN), note: " " + capture.earlier };
  if (known.some((row) => row === undefined)) fetchRows(i, rows);
  const failed = known.find((row) => row?.error);
  if (known.length && known.every((row) => row?.values)) {
    return { values: known[0].values.length ? [...known[0].values].map((_, p) => known.reduce((sum, row) => sum + row.values[p], 0)) : [], note: " " + capture.earlier };
  }
  return { values: new Array(count).fill(NaN), note: ` ${capture.earlier} ${failed ? failed.error : "Computing …"}` };
}
const unitOf = (count, what) => (count > 1 ? `of attention, sum over ${count} ${what === "patch" ? "patches" : "words"}` : `of a ${what}'s attention`);

// --- sentences ---

const placeOf = (capture, patch) => `row ${Math.floor(patch / capture.grid[1]) + 1}, column ${(patch % capture.grid[1]) + 1}`;
const read = (value) => lens.readNumber(value);
const quoteName = (name) => name.replace(/^(.*?)( \(\d+\w+ word\))?$/, "“$1”$2"); // “red” (3rd word)
const named = (capture, words) => {
  const names = [...words].sort((a, b) => a - b).map((word) => quoteName(capture.words[word]?.name ?? ""));
  return names.length > 3 ? `${names.slice(0, 2).join(", ")} and ${names.length - 2} more` : names.join(" and ");
};
function most(values, out = new Set()) {
  let best = -1;
  values.forEach((value, at) => Number.isFinite(value) && !out.has(at) && (best < 0 || value > values[best]) && (best = at));
  return best;
}

function saysOfAnswer(capture, words, patches, values, shades, out, looking) {
  if (!looking.length) return `${named(capture, words)} was never fed back into the model, so it has no row of its own; choose the row that chose it.`;
  const best = most(values, out), who = words.size || looking.length === 1 ? named(capture, words.size ? words : looking) : `The mean of all ${looking.length} words`;
  const look = words.size > 1 ? "together look" : "looks";
  let says = best < 0 ? "" : `${who} ${look} most at ${placeOf(capture, best)}: ${read(values[best])} of attention, of ${read(total(values))} on the whole picture.`;
  if (shades) {
    const word = most(shades);
    if (word >= 0) says += ` Of all words, ${named(capture, [word])} looked most at the chosen ${patches.size > 1 ? "patches" : "patch"}: ${read(shades[word])}.`;
  }
  return says + saysOfSinks(capture, out);
}
function saysOfWords(capture, words, values) {
  const best = most(values);
  const what = words.size ? named(capture, words) : "the whole prompt";
  return best < 0 ? "" : `The patch in ${placeOf(capture, best)} looked most at ${what}: ${read(values[best])} of its attention.`;
}
function saysOfPatches(capture, patches, rows, values, shades, out) {
  const who = patches.size > 1 ? `The ${patches.size} chosen patches` : `The patch in ${placeOf(capture, [...patches][0])}`;
  if (!rows.length) return `${who} was made last and never fed back into the model, so it has no row of its own; choose the row that chose it.`;
  const word = most(shades), best = most(values, out);
  const earlier = best >= 0 && values[best] > 0 ? ` and, among earlier patches, most at ${placeOf(capture, best)} (${read(values[best])})` : "";
  return `${who} looked most at ${named(capture, [word])} of the prompt's words (${read(shades[word])})${earlier}.` + saysOfSinks(capture, out);
}
function saysOfSinks(capture, out) {
  if (get("sinks") !== "out") return "";
  if (!out.size) return " No patch counts as a sink here.";
  const places = [...out].slice(0, 4).map((patch) => placeOf(capture, patch)).join("; ");
  return ` Taken out as ${out.size === 1 ? "a sink" : `${out.size} sinks`}: ${places}${out.size > 4 ? " …" : ""}.`;
}
const ROWS = {
  false: (what) => `A ${what} is chosen by the row before it, the step whose query is what was fed in last; that row is shown.`,
  true: (what) => `Shown is the row of a ${what} itself, one step after it was chosen, when it was fed back: what it gathers for what follows.`,
};
const SINKS =
  "A sink is a patch to which at least 9 in 10 of all rows give over 5 times what they give their median patch. Sinks that are " +
  "taken out are crossed out and left out of the scale; where every word is about one thing, its patches can look like sinks.";
const subtitle = () =>
  (data.captures[0].task === "understanding"
    ? "Click a word to see where it looked, or a patch to see which words looked there; Shift-click for several."
    : "Click a patch to see which words and earlier patches it looked at, or a word to see which patches looked at it; Shift-click for several.") +
  ` Shown: ${sliceName()}.`;

// --- drawing ---

function draw() {
  if (!data || !slices || data.captures[0].empty) return;
  const looks = data.captures.map((_, i) => lookOf(i));
  fillControls();
  drawChips(looks);
  drawMaps(looks);
  drawPlayer();
  part(".lens-sub").textContent = subtitle();
  const letter = (i) => (looks.length > 1 ? `${LETTERS[i]}: ` : "");
  part(".lens-says").textContent = looks.map((look, i) => letter(i) + (look.said || look.says)).join(" ");
  part(".lens-explains").hidden = false;
  part(".lens-explains").textContent = [ROWS[isFed()](whatOf()), get("sinks") === "out" ? SINKS : "", step() && looks[0].made !== null ? "The finished picture is uncovered patch by patch." : "", data.note, data.depth].filter(Boolean).join(" ");
  card.dataset.drawn = [front?.id, get("with"), JSON.stringify(sliceValues()), get("word"), get("patch"), get("play"), get("sinks"), get("fed"), get("smooth")].join("|");
}

function say(sentence) {
  part(".lens-says").textContent = sentence;
  slices = null;
  for (const host of element.querySelectorAll("[data-look]")) host.hidden = true;
  for (const name of [".lens-space-controls", ".lens-space-chips", ".lens-space-player", ".lens-actions"]) part(name).hidden = true;
  part(".lens-sub").textContent = "";
  part(".lens-explains").hidden = true;
  card.dataset.drawn = [front?.id, "empty"].join("|");
}

function drawMaps(looks) {
  const smooth = get("smooth") === "1", shownLooks = looks.filter((look) => !look.said);
  const high = Math.max(1e-9, ...shownLooks.flatMap((look) => look.values.filter((value, patch) => Number.isFinite(value) && !look.out.has(patch))));
  for (const i of [0, 1]) {
    const look = looks[i], host = element.querySelector(`[data-look="${i}"]`);
    host.hidden = !look || Boolean(look.said);
    if (host.hidden) continue;
    const title = (looks.length > 1 ? `${LETTERS[i]}: ` : "") + look.capture.name;
    maps[i].draw({ ...frameOf(look, smooth), picture: pictures[i], low: 0, high, scale: "share", title, unit: look.unit });
    drawList(host.querySelector(".lens-space-list"), look);
  }
  drawDifference(looks, smooth);
  element.querySelector(".lens-space-maps").classList.toggle("lens-alone", looks.length === 1);
}
const frameOf = (look, smooth) => ({
  grid: look.capture.grid, values: look.values, out: look.out, chosen: look.patches, smooth, made: look.made,
  rests: look.capture.task === "understanding" && look.patches.size === 1 ? [...look.patches][0] : null,
  label: `${look.capture.name}: ${look.capture.grid[0]} rows of ${look.capture.grid[1]} patches. Arrow keys move, Enter chooses, Shift and Enter adds, Escape clears.`,
  says: (patch, value) => `${sentenceCase(placeOf(look.capture, patch))}: ${look.out.has(patch) ? "taken out as a sink, " : ""}${Number.isFinite(value) ? read(value) : "not known"} ${look.unit}`,
});
const sentenceCase = (words) => words[0].toUpperCase() + words.slice(1);

function drawDifference(looks, smooth) {
  const [a, b] = looks, host = element.querySelector('[data-look="difference"]');
  host.hidden = looks.length < 2 || Boolean(data.note) || Boolean(a.said || b.said);
  if (host.hidden) return;
  const out = new Set([...a.out, ...b.out]);
  const values = a.values.map((value, patch) => value - b.values[patch]);
  const high = Math.max(1e-9, ...values.filter((value, patch) => Number.isFinite(value) && !out.has(patch)).map(Math.abs));
  maps.difference.draw({ ...frameOf({ ...a, values, out, unit: "difference of attention" }, smooth), picture: null, low: -high, high, scale: "difference", title: "A − B", unit: "difference of attention" });
}

function drawList(list, look) {
  list.hidden = !look.shades;
  if (!look.shades) return;
  const order = look.shades.map((value, word) => [value, word]).filter(([value]) => Number.isFinite(value)).sort((a, b) => b[0] - a[0]).slice(0, LISTED);
  const top = Math.max(1e-9, order[0]?.[0] || 0);
  list.setAttribute("aria-label", look.capture.task === "understanding" ? "Words that looked there" : "Words it looked at");
  list.dataset.task = look.capture.task;
  list.replaceChildren(...order.map(([value, word]) => {
    const item = document.createElement("li");
    item.append(textOf("span", look.capture.words[word].name), textOf("i", ""), textOf("b", read(value)));
    item.children[1].style.setProperty("--share", `${(100 * value) / top}%`);
    return item;
  }));
}
const textOf = (tag, words) => Object.assign(document.createElement(tag), { textContent: words });

function drawChips(looks) {
  const rows = looks.map((look, i) => {
    const capture = data.captures[i], row = Object.assign(document.createElement("div"), { className: "lens-space-words" });
    row.dataset.task = capture.task;
    row.setAttribute("role", "group");
    row.setAttribute("aria-label", `Words${looks.length > 1 ? ` of ${LETTERS[i]}` : ""}`);
    if (looks.length > 1) row.append(textOf("span", LETTERS[i]));
    const top = Math.max(1e-9, ...(look.shades || []).filter(Number.isFinite));
    row.append(...capture.words.map(({ text, name }, word) => chipOf(look, word, text, name, top)));
    return row;
  });
  const focused = document.activeElement?.closest?.(".lens-space-words"), at = focused && [...part(".lens-space-chips").children].indexOf(focused);
  const word = focused && document.activeElement.dataset.word;
  part(".lens-space-chips").replaceChildren(...rows);
  if (focused) rows[at]?.querySelector(`[data-word="${word}"]`)?.focus({ preventScroll: true });
}
function chipOf(look, word, text, name, top) {
  const chip = lens.button(text, () => {});
  chip.dataset.word = word;
  chip.addEventListener("click", (event) => pickWord(word, event.shiftKey || event.ctrlKey || event.metaKey));
  chip.setAttribute("aria-pressed", String(Boolean(look.words?.has(word))));
  const share = look.shades?.[word];
  chip.title = Number.isFinite(share) ? `${name}: ${read(share)}` : name;
  chip.setAttribute("aria-label", chip.title);
  if (Number.isFinite(share)) chip.style.setProperty("--share", (share / top).toFixed(3));
  return chip;
}

// --- controls ---

function fillControls() {
  for (const name of [".lens-space-controls", ".lens-space-chips", ".lens-space-player", ".lens-actions"]) part(name).hidden = false;
  const [{ layers, heads, task }] = data.captures, head = headPinned();
  layerInput.max = layers;
  layerInput.value = head ? head[1] : get("layer") || 0;
  layerInput.nextElementSibling.textContent = layerInput.value === "0" ? "all" : `${layerInput.value} of ${layers}`;
  if (headInput.options.length !== heads + 1) {
    headInput.replaceChildren(new Option("mean of all", ""), ...Array.from({ length: heads }, (_, i) => new Option(`head ${i + 1}`, i + 1)));
  }
  headInput.value = head ? head[2] : "";
  rowInput.value = isFed() ? "1" : "";
  sinksInput.checked = get("sinks") === "out";
  sinksInput.disabled = task === "generation" && !readPlaces("patch", mostPatches()).size && !step();
  sinksInput.parentElement.title = sinksInput.disabled ? "Sinks are patches that are looked at; choose a patch to see which" : "";
  smoothInput.checked = get("smooth") === "1";
  part(".lens-space-clear").disabled = !get("word") && !get("patch") && !step();
}
layerInput.addEventListener("input", () => {
  const layer = layerInput.value === "0" ? "" : layerInput.value, head = headPinned();
  layerInput.nextElementSibling.textContent = layer || "all";
  set(head && layer ? { head: `${layer}.${head[2]}`, layer: "" } : { head: "", layer });
});
headInput.addEventListener("change", () => {
  const layer = layerInput.value === "0" ? "1" : layerInput.value;
  set(headInput.value ? { head: `${layer}.${headInput.value}`, layer: "" } : { head: "", layer });
});
rowInput.addEventListener("change", () => set({ fed: rowInput.value }));
sinksInput.addEventListener("change", () => set({ sinks: sinksInput.checked ? "out" : "" }));
smoothInput.addEventListener("change", () => set({ smooth: smoothInput.checked ? "1" : "" }));

// --- the player: a drawing patch by patch, an answer word by word ---

const whatOf = () => (data.captures[0].task === "understanding" ? "word" : "patch");
const steps = () => (data.captures[0].task === "understanding" ? data.captures[0].words.length : data.captures[0].grid[0] * data.captures[0].grid[1]);
function drawPlayer() {
  const what = whatOf();
  playInput.max = steps();
  playInput.value = step();
  part(".lens-space-player output").textContent = step() ? `${what} ${step()} of ${steps()}` : what === "word" ? "word by word" : "patch by patch";
  part(".lens-space-play").textContent = playing ? "Pause" : "Play";
}
function stop() {
  clearInterval(playing);
  playing = 0;
}
function play() {
  if (playing) return [stop(), draw()];
  if (step() >= steps()) set({ play: 1 });
  playing = setInterval(() => {
    if (!data || lens.closer.inFront() !== "space" || step() >= steps()) return [stop(), draw()];
    set({ play: step() + 1 });
  }, STEP_MS);
  draw();
}
part(".lens-space-play").addEventListener("click", play);
playInput.addEventListener("input", () => [stop(), set({ play: playInput.value === "0" ? "" : playInput.value })]);

// --- taking along ---

lens.patchActions(part(".lens-actions"), () => {
  const looks = data.captures.map((_, i) => lookOf(i));
  const chips = looks.flatMap((look, i) => (look.said ? [] : look.capture.words.map(({ name }, word) => ({
    text: name, value: look.shades ? look.shades[word] : NaN, chosen: look.words.has(word), map: maps[i].current().shown.title,
  }))));
  return {
    title: "Space · " + sliceName(),
    words: part(".lens-says").textContent,
    stem: `aia-lens-space-${front.id.slice(0, 8)}`,
    chips,
    maps: Object.values(maps).filter((map) => map.current().shown && !map.current().host.hidden),
  };
});

part("h2").textContent = "Space";
const OWN = ["word", "patch", "play", "sinks", "smooth", "fed"];
lens.onCapture((next) => (front = next));
lens.closer.onSet((keys) => {
  if (!data || data.captures[0].empty || lens.closer.inFront() !== "space") return;
  if (keys.some((key) => ["head", "layer", "closer"].includes(key))) update();
  else if (keys.some((key) => OWN.includes(key))) draw();
});
lens.closer.add("space", element, { show });
