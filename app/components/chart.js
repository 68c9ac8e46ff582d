// The chart card: draws view.alternatives[chosen] with plotly.js; see chart.py.
const card = element.querySelector(".lens-chart");
const plot = element.querySelector(".lens-plot");
const pills = element.querySelector(".lens-pills");
const actions = element.querySelector(".lens-actions");
let view = null;
let chosen = null;
let drawing = null; // the curve on its way

const part = (name) => element.querySelector(name);
const current = () => view.alternatives.find((a) => a.name === chosen);

function show(next) {
  view = next;
  card.hidden = !view;
  if (!view) return;
  chosen = view.chosen;
  part("h2").textContent = view.title;
  part(".lens-sub").textContent = view.subtitle;
  drawPills();
  actions.inert = view.pending; // what is there belongs to the one before
  if (!view.pending) drawActions();
  choose(chosen);
}

// The curve is there as soon as it is computed; its link and its files are once it is kept.
function keep({ link, downloads }) {
  view = { ...view, link, downloads, pending: false };
  actions.inert = false;
  drawActions();
  finish();
}

function drawPills() {
  const buttons = view.alternatives.map((alternative) => {
    const pill = document.createElement("button");
    pill.type = "button";
    pill.textContent = alternative.name;
    pill.title = alternative.explanation;
    pill.setAttribute("role", "radio");
    pill.addEventListener("click", () => choose(alternative.name));
    return pill;
  });
  pills.replaceChildren(...buttons);
}

pills.addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  const names = view.alternatives.map((a) => a.name);
  const next = (names.indexOf(chosen) + step + names.length) % names.length;
  choose(names[next]);
  pills.children[next].focus();
});

function choose(name) {
  chosen = name;
  const { explanation, sentence } = current();
  for (const pill of pills.children) {
    const on = pill.textContent === name;
    pill.setAttribute("aria-checked", String(on));
    pill.tabIndex = on ? 0 : -1;
  }
  part(".lens-says").textContent = sentence;
  part(".lens-explains").textContent = explanation;
  plot.setAttribute("aria-label", sentence);
  const first = !card.dataset.curve;
  drawing = draw().catch(console.error);
  if (!view.pending) finish(first);
}

// Tell the address and the cards below. They wait for the curve, but not when the page opens.
function finish(first = false) {
  remember();
  const name = chosen;
  drawing.then(() => plot.lensMove).then(() => {
    card.dataset.drawn = view.link.capture + ":" + chosen; // tests wait for this
    if (!first && name === chosen) showBelow();
  });
  if (first) showBelow();
}

function showBelow() {
  lens.showCapture({ id: view.link.capture || "", task: view.task, definition: chosen });
  if (lens.closer.get("head")) markHead();
}

// What was not stored has no link.
const isLinked = () => Object.keys(view.link).length > 0;

// The query that brings back what is shown, after a reload or from a copied link.
function query() {
  const parameters = new URLSearchParams(view.link);
  if (isLinked() && chosen !== view.alternatives[0].name) parameters.set(view.link_key, chosen);
  return parameters.toString();
}

const remember = () => lens.place("explore", query());

// --- the head that is pinned below, on its layer ---

let mark = null; // { layer, head, means } of the capture in front

async function markHead() {
  const head = lens.closer.get("head"), [layer, own] = head.split(".").map(Number);
  const found = view && isLinked() && own ? await meansOf(head) : null;
  if (head !== lens.closer.get("head") || (!found && !mark)) return;
  mark = found && { layer, head: own, means: found, of: view.link.capture };
  draw();
}
async function meansOf(head) {
  try {
    return (await lens.closer.read("head", { head, definition: chosen })).means[0];
  } catch {
    return null; // the view that has it pinned says why
  }
}

function figure() {
  const drawn = current().figure;
  if (!mark || mark.of !== view.link.capture) return drawn;
  const name = `head ${mark.head} of layer ${mark.layer}`;
  const dot = {
    type: "scatter", name, x: [mark.layer], y: [mark.means[chosen]], mode: "markers+text", showlegend: false,
    text: [`head ${mark.head}`], textposition: "top center", cliponaxis: false, textfont: { color: "var(--lens-ink)" },
    marker: { symbol: "diamond", size: 11, color: "var(--lens-card)", line: { color: "var(--lens-ink)", width: 2.2 } },
    hovertemplate: `head ${mark.head} %{y:.3f}<extra></extra>`,
  };
  return { ...drawn, data: [...drawn.data.slice(0, -1), dot, ...drawn.data.slice(-1)] };
}

async function draw() {
  await lens.paint(plot, figure());
  card.dataset.curve = 1 + Number(card.dataset.curve || 0); // how often it was drawn
}

function drawActions() {
  const buttons = view.downloads.map((file) =>
    lens.button(file.label, () => lens.download(file.name, new Blob([file.text], { type: file.mime }))),
  );
  const png = lens.button("PNG", async () => {
    const picture = await lens.picture(plot, figure(), { title: view.title + " · " + chosen });
    lens.download(view.png_name.replace("@", chosen), picture);
  });
  actions.replaceChildren(...buttons, png, ...(isLinked() ? [lens.copyButton(() => lens.placed("explore"))] : []));
}

lens.plotly().catch(console.error); // start loading while the server still answers
lens.closer.onSet((keys) => keys.includes("head") && markHead());
lens.cards.curve = show;
lens.cards.keptCurve = keep;
watch("value", () => show(props.value));
lens.onTheme(() => view && draw());
show(props.value);
