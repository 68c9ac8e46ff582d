// The chart card: draws value.alternatives[chosen] with plotly.js; see chart.py.
const card = element.querySelector(".lens-chart");
const plot = element.querySelector(".lens-plot");
const pills = element.querySelector(".lens-pills");
const actions = element.querySelector(".lens-actions");
const CONFIG = { displayModeBar: false, responsive: true, doubleClick: false, showTips: false };
let chosen = null;

const part = (name) => element.querySelector(name);
const current = () => props.value.alternatives.find((a) => a.name === chosen);

function show() {
  const view = props.value;
  card.hidden = !view;
  if (!view) return;
  chosen = view.chosen;
  part("h2").textContent = view.title;
  part(".lens-sub").textContent = view.subtitle;
  drawPills(view);
  drawActions(view);
  choose(chosen);
}

function drawPills(view) {
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
  const names = props.value.alternatives.map((a) => a.name);
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
const isLinked = () => Object.keys(props.value.link).length > 0;

// The address of what is shown, so that a reload or a copied link brings it back.
function address() {
  const view = props.value;
  const query = new URLSearchParams(view.link);
  if (isLinked() && chosen !== view.alternatives[0].name) query.set(view.link_key, chosen);
  const theme = new URLSearchParams(location.search).get("__theme");
  if (theme) query.set("__theme", theme);
  return location.pathname + (query.size ? "?" + query : "");
}

function remember() {
  history.replaceState(history.state, "", address());
}

async function draw() {
  const Plotly = await lens.plotly();
  const { data, layout } = lens.coloured(current().figure, plot);
  await Plotly.react(plot, data, layout, CONFIG);
  card.dataset.drawn = props.value.link.capture + ":" + chosen; // tests and screen readers wait for this
}

// Exactly the chart shown, on the card's own background, twice as fine as on the screen.
async function pngUrl() {
  const Plotly = await lens.plotly();
  const background = getComputedStyle(card).backgroundColor;
  const { data, layout } = lens.coloured(current().figure, plot);
  const title = { text: props.value.title + " · " + chosen, x: 0.02, font: { size: 14 } };
  const margin = { ...layout.margin, t: 56 };
  return Plotly.toImage(
    { data, layout: { ...layout, title, margin, paper_bgcolor: background, plot_bgcolor: background } },
    { format: "png", width: plot.clientWidth, height: plot.clientHeight + 40, scale: 2 },
  );
}

function drawActions(view) {
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
watch("value", show);
lens.onTheme(() => props.value && draw());
show();
