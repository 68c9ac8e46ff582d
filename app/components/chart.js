// The chart card: draws view.alternatives[chosen] with plotly.js; see chart.py.
const card = element.querySelector(".lens-chart");
const plot = element.querySelector(".lens-plot");
const pills = element.querySelector(".lens-pills");
const actions = element.querySelector(".lens-actions");
const CONFIG = { displayModeBar: false, responsive: true, doubleClick: false, showTips: false };
const AT_ONCE = { mode: "afterall", transition: { duration: 0 }, frame: { duration: 0, redraw: false } };
let view = null;
let chosen = null;
let frame = ""; // what the drawn axes, legend and kinds of curves came from

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
  drawActions();
  choose(chosen);
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
  remember();
  draw();
}

// What was not stored has no link.
const isLinked = () => Object.keys(view.link).length > 0;

// The address of what is shown, so that a reload or a copied link brings it back.
function address() {
  const query = new URLSearchParams(view.link);
  if (isLinked() && chosen !== view.alternatives[0].name) query.set(view.link_key, chosen);
  const theme = new URLSearchParams(location.search).get("__theme");
  if (theme) query.set("__theme", theme);
  return location.pathname + (query.size ? "?" + query : "");
}

function remember() {
  history.replaceState(history.state, "", address());
}

// Where only numbers differ from what is drawn, the curves move and the rest stays: less than half the work.
async function draw() {
  const Plotly = await lens.plotly();
  const { data, layout } = lens.coloured(current().figure, plot);
  const before = frame;
  frame = JSON.stringify([layout, data.map((trace) => [trace.name, trace.fillcolor, trace.line])]);
  if (frame === before) await Plotly.animate(plot, { data, traces: [...data.keys()] }, AT_ONCE);
  else await Plotly.react(plot, data, layout, CONFIG);
  card.dataset.drawn = view.link.capture + ":" + chosen; // tests and screen readers wait for this
}

// Exactly the chart shown, on the card's own background, twice as fine as on the screen.
async function pngUrl() {
  const Plotly = await lens.plotly();
  const background = getComputedStyle(card).backgroundColor;
  const { data, layout } = lens.coloured(current().figure, plot);
  const title = { text: view.title + " · " + chosen, x: 0.02, font: { size: 14 } };
  const margin = { ...layout.margin, t: 56 };
  return Plotly.toImage(
    { data, layout: { ...layout, title, margin, paper_bgcolor: background, plot_bgcolor: background } },
    { format: "png", width: plot.clientWidth, height: plot.clientHeight + 40, scale: 2 },
  );
}

function drawActions() {
  const buttons = view.downloads.map((file) =>
    action(file.label, () => lens.download(file.name, new Blob([file.text], { type: file.mime }))),
  );
  const png = action("PNG", async () =>
    lens.download(view.png_name.replace("@", chosen), await (await fetch(await pngUrl())).blob()),
  );
  const link = action("Copy link", async () => {
    const copied = await lens.copy(new URL(address(), location.href).href);
    link.textContent = copied ? "Copied" : "Copy it from the address bar";
    setTimeout(() => (link.textContent = "Copy link"), 1600);
  });
  actions.replaceChildren(...buttons, png, ...(isLinked() ? [link] : []));
}

function action(label, run) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = label;
  button.addEventListener("click", run);
  return button;
}

lens.plotly().catch(console.error); // start loading while the server still answers
lens.cards.curve = show;
watch("value", () => show(props.value));
lens.onTheme(() => view && draw());
show(props.value);
