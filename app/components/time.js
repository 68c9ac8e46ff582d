// Time: the intensity of every step in every layer, branch by branch, of one capture or of two; see app/closer/time.py.
const part = (name) => element.querySelector(name);
const LETTERS = ["A", "B"];
const BRANCHES = ["conditional", "unconditional"];
const BESIDE = 256; // tokens up to which two maps fit beside each other; longer ones stand step under step
const HEIGHT = 270;
const SLOTS = ["0 0", "0 1", "1 0", "1 1", "difference 0", "difference 1"];
const UNIT = { understanding: "of its attention on the image", generation: "of its attention on the text" };
const COLUMN = { understanding: "word of the answer", generation: "patch, in the order drawn" };
part(".lens-view-body").innerHTML =
  '<div class="lens-time-controls"><label>Row <select aria-label="Row"><option value="">that chose it</option><option value="1">of itself, fed in</option></select></label></div>' +
  `<div class="lens-maps">${SLOTS.map((slot) => `<div data-map="${slot}"></div>`).join("")}</div>`;
const rowInput = part("select");
const maps = {};
for (const slot of SLOTS) {
  maps[slot] = lens.heatmap(hostOf(slot), { pick: (cell) => pick(slot, cell), move: (cell) => follow(slot, cell) });
}
let data = null;
let front = null;

function hostOf(slot) {
  return element.querySelector(`[data-map="${slot}"]`);
}
// A map's own capture; differences are told by A's tokens.
const ownerOf = (slot) => (slot[0] === "1" ? 1 : 0);

// --- one token ---

const pinned = () => {
  const found = /^(\d+)\.(\d+)$/.exec(lens.closer.get("step"));
  return found ? [found[1] - 1, found[2] - 1] : null; // "layer.token" → [row, column]
};

// Pins a token's cell, and goes to where the token looked.
function pick(slot, [layer, token]) {
  const capture = data.captures[ownerOf(slot)];
  const place = capture.task === "understanding" ? { word: token + 1, patch: "" } : { word: "", patch: token + 1 };
  const there = capture.in_space ? { closer: "space", layer: layer + 1, head: "", play: "", ...place } : {};
  lens.closer.set({ step: `${layer + 1}.${token + 1}`, ...there });
  if (there.closer) document.querySelector(`#lens-tab-${there.closer}`).focus({ preventScroll: true });
}

// What is pointed at in one map is framed in all others.
function follow(slot, cell) {
  for (const other of SLOTS) if (other !== slot && !hostOf(other).hidden) maps[other].point(cell);
}

function nameOf(capture, token) {
  if (capture.task === "understanding") return `word ${token + 1} “${capture.tokens[token]?.text ?? "none"}”`;
  return `patch in row ${Math.floor(token / capture.grid[1]) + 1}, column ${(token % capture.grid[1]) + 1}`;
}

// --- drawing ---

function show(next) {
  data = next;
  draw();
}

function draw() {
  if (!data || !front) return;
  const { captures, sentence, note } = data, alone = captures.length === 1;
  part("h2").textContent = "Time";
  part(".lens-sub").textContent = subtitle();
  part(".lens-says").textContent = captures[0].empty || sentence;
  part(".lens-explains").textContent = note;
  part(".lens-explains").hidden = !note;
  rowInput.value = lens.closer.get("fed") === "1" ? "1" : "";
  for (const i of [0, 1]) {
    for (const [branch, name] of BRANCHES.entries()) drawBranch(i, branch, name, alone);
  }
  for (const i of [0, 1]) drawDifference(i);
  const grid = part(".lens-maps"), several = shown().length > 1;
  grid.classList.toggle("lens-alone", !several || captures.some(tooWide));
  part(".lens-time-controls").hidden = !shown().length;
  part(".lens-actions").hidden = !shown().length;
}
const tooWide = ({ tokens, grid }) => (tokens.length || grid[0] * grid[1]) > BESIDE;
const subtitle = () =>
  (data.captures[0].task === "understanding"
    ? "Every column is a word of the answer, every row a layer: the share of attention on the image, mean of heads."
    : "Every column is a patch in the order drawn, every row a layer: the share of attention on the text, mean of heads.") +
  (data.captures[0].in_space ? " Click one to see where it looked." : "");

function drawBranch(i, branch, name, alone) {
  const capture = data.captures[i], map = capture && !capture.empty && data.maps[i][branch];
  const several = capture && data.maps[i].length > 1;
  const title = !capture ? "" : (alone ? "" : `${LETTERS[i]}: `) + capture.name + (several ? `, ${name}` : "");
  drawOne(`${i} ${branch}`, map, capture, { title, scale: capture?.task, unit: UNIT[capture?.task] });
}

function drawDifference(i) {
  const found = data.differences[i];
  drawOne(`difference ${i}`, found, data.captures[0], { title: found?.title, scale: "difference", unit: "difference of shares" });
}

function drawOne(slot, map, capture, about) {
  hostOf(slot).hidden = !map;
  if (!map) return;
  maps[slot].pin(pinned());
  const { tokens, task } = capture;
  maps[slot].draw(map, {
    ...about,
    rowTitle: "layer",
    columnTitle: COLUMN[task],
    columnNames: tokens.length ? tokens.map(({ text }) => text) : undefined,
    columnPlaces: tokens.length ? undefined : (token) => nameOf(capture, token),
    height: HEIGHT,
    after: capture.prefill && map.columns > 1 ? 0 : undefined,
    label: `${about.title}: layers by ${task === "understanding" ? "words" : "patches"}. Arrow keys move, Enter shows where it looked.`,
    empty: "Point at a step to read it.",
    says: (layer, token, value) => `Layer ${layer + 1}, ${nameOf(capture, token)}: ${read(value, about)}`,
  });
}
const read = (value, { unit, scale }) =>
  !Number.isFinite(value) ? (scale === "difference" ? "not in both" : "never fed back") : `${value.toFixed(3).replace("-", "−")} ${unit}`;

const shown = () => SLOTS.filter((slot) => !hostOf(slot).hidden && maps[slot].current().map).map((slot) => maps[slot]);
lens.mapActions(part(".lens-actions"), () => ({
  title: `Time · ${front.definition} · row ${rowInput.selectedOptions[0].text}`,
  words: part(".lens-says").textContent,
  stem: `aia-lens-time-${front.id.slice(0, 8)}-${front.definition}`,
  maps: shown(),
}));

rowInput.addEventListener("change", () => lens.closer.set({ fed: rowInput.value }));
lens.onCapture((next) => (front = next));
lens.closer.onSet((keys) => keys.includes("step") && SLOTS.forEach((slot) => maps[slot].pin(pinned())));
lens.closer.add("time", element, { show, needs: ["definition", "fed"] });
