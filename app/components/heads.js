// Heads: a map of all heads, of one capture or of two; see app/closer/heads.py.
const part = (name) => element.querySelector(name);
const LETTERS = ["A", "B"];
const UNIT = { understanding: "of its attention on the image", generation: "of its attention on the text" };
const HEIGHT = 300;
part(".lens-view-body").innerHTML = '<div class="lens-maps"><div data-map="0"></div><div data-map="1"></div><div data-map="difference"></div></div>';
const maps = {};
for (const host of element.querySelectorAll("[data-map]")) maps[host.dataset.map] = lens.heatmap(host, { pick });
let data = null;
let front = null;

const pinned = () => {
  const found = /^(\d+)\.(\d+)$/.exec(lens.closer.get("head"));
  return found ? [found[2] - 1, found[1] - 1] : null; // "layer.head" → [row, column]
};

function pick([head, layer]) {
  const name = `${layer + 1}.${head + 1}`;
  lens.closer.set({ head: lens.closer.get("head") === name ? "" : name });
}

function show(next) {
  data = next;
  draw();
}

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
  element.querySelector(".lens-maps").classList.toggle("lens-alone", alone);
}

function drawOne(name, map, about) {
  const host = element.querySelector(`[data-map="${name}"]`);
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
    says: (head, layer, value) => `Layer ${layer + 1}, head ${head + 1}: ${value.toFixed(3)} ${about.unit}`,
  });
}

const shown = () => Object.values(maps).filter((map) => map.current().map && !map.current().host.hidden);
lens.mapActions(part(".lens-actions"), () => ({
  title: "Heads · " + front.definition,
  words: part(".lens-says").textContent,
  stem: `aia-lens-heads-${front.id.slice(0, 8)}-${front.definition}`,
  maps: shown(),
}));

lens.onCapture((next) => {
  const again = front && data && next.id === front.id && next.with === front.with;
  front = next;
  if (again) draw(); // another definition of the same data
});
lens.closer.onSet((keys) => keys.includes("head") && Object.values(maps).forEach((map) => map.pin(pinned())));
lens.closer.add("heads", element, { show });
