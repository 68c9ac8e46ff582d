// A card with one chart; see plot.py.
const card = element.querySelector(".lens-plotcard");
const plot = element.querySelector(".lens-plot");
const part = (name) => element.querySelector(name);
const DASHES = { solid: "", dot: "2 3", dash: "7 4", longdash: "11 4", dashdot: "8 3 2 3", longdashdot: "11 3 2 3" };
let view = null;
let painting = Promise.resolve(); // one drawing after the other: plotly.js loses count otherwise

function show(next) {
  if (view && next && JSON.stringify(next) === JSON.stringify(view)) return;
  view = next && next.figure ? next : null;
  card.hidden = !view;
  if (!view) return;
  part("h2").textContent = view.title;
  say(".lens-sub", view.subtitle);
  say(".lens-says", view.sentence);
  say(".lens-explains", view.explanation);
  plot.setAttribute("aria-label", view.sentence || view.title);
  part(".lens-legend").replaceChildren(...view.legend.map(makeKey));
  part(".lens-legend").hidden = !view.legend.length;
  drawActions();
  draw();
}

function say(name, text) {
  part(name).textContent = text;
  part(name).hidden = !text;
}

function makeKey({ label, colours, width, dash }) {
  const item = document.createElement("li");
  const each = 26 / colours.length;
  const strokes = colours.map((colour, i) => {
    const style = `stroke: ${colour}; stroke-width: ${width}; stroke-dasharray: ${DASHES[dash] ?? dash}`;
    return `<line x1="${i * each}" x2="${(i + 1) * each}" y1="4" y2="4" style="${style}"/>`;
  });
  item.innerHTML = `<svg width="26" height="8" aria-hidden="true">${strokes.join("")}</svg><span></span>`;
  item.querySelector("span").textContent = label;
  return item;
}

function draw() {
  const { key, figure } = view;
  plot.style.height = figure.layout.height + "px";
  // With another key everything is drawn anew: cells and bars do not move as curves do.
  const marked = { ...figure, layout: { ...figure.layout, meta: key } };
  painting = painting.then(() => lens.paint(plot, marked)).catch(console.error);
  painting.then(() => (card.dataset.drawn = key)); // tests wait for this
}

// What is shown, with its title and legend, on the card's own background.
async function picture(format) {
  const Plotly = await lens.plotly();
  const background = getComputedStyle(card).backgroundColor;
  const { data, layout } = lens.coloured(view.figure, plot);
  const rows = view.legend.length;
  const title = { text: view.title, x: 0.02, y: 1, yref: "container", yanchor: "top", pad: { t: 14 }, font: { size: 14 } };
  const margin = { ...layout.margin, t: 66, b: layout.margin.b + 22 * rows };
  const legend = { orientation: "v", x: 0, y: 0, yref: "container", yanchor: "bottom", font: { size: 12 } };
  const height = layout.height + 40 + 22 * rows;
  const page = { ...layout, title, margin, legend, height, showlegend: rows > 0, paper_bgcolor: background, plot_bgcolor: background };
  const url = await Plotly.toImage({ data, layout: page }, { format, width: plot.clientWidth, height, scale: 2 });
  return (await fetch(url)).blob();
}

function drawActions() {
  const pictures = ["png", "svg"].map((format) =>
    action(format.toUpperCase(), async () => lens.download(`${view.stem}.${format}`, await picture(format))),
  );
  const files = view.files.map((file) =>
    action(file.label, async () => {
      const bytes = await (await fetch(`data:${file.mime};base64,${file.base64}`)).blob();
      lens.download(file.name, bytes);
    }),
  );
  const link = action("Copy link", async () => {
    const copied = await lens.copy(new URL(lens.address(lens.withTheme(view.link)), location.href).href);
    link.textContent = copied ? "Copied" : "Copy it from the address bar";
    setTimeout(() => (link.textContent = "Copy link"), 1600);
  });
  part(".lens-actions").replaceChildren(...pictures, ...files, ...(view.link ? [link] : []));
}

function action(label, run) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = label;
  button.addEventListener("click", run);
  return button;
}

watch("value", () => show(props.value));
lens.onTheme(() => view && draw());
show(props.value);
