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
  painting.then(() => plot.lensMove).then(() => (card.dataset.drawn = key)); // tests wait for this
}

function drawActions() {
  const pictures = ["png", "svg"].map((format) =>
    lens.button(format.toUpperCase(), async () => {
      const about = { title: view.title, legend: view.legend.length, format };
      lens.download(`${view.stem}.${format}`, await lens.picture(plot, view.figure, about));
    }),
  );
  const files = view.files.map((file) =>
    lens.button(file.label, async () => {
      const answer = await fetch(file.url || `data:${file.mime};base64,${file.base64}`);
      if (answer.ok) lens.download(file.name, await answer.blob());
      else say(".lens-says", await answer.text());
    }),
  );
  part(".lens-actions").replaceChildren(...pictures, ...files, ...(view.link ? [lens.copyButton(() => view.link)] : []));
}

watch("value", () => show(props.value));
lens.onTheme(() => view && draw());
show(props.value);
