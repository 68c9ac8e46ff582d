// A chart with a slider over steps; see steps.py.
const card = element.querySelector(".lens-steps");
const plot = element.querySelector(".lens-plot");
const scrub = element.querySelector(".lens-scrub");
const slider = scrub.querySelector("input");
const part = (name) => element.querySelector(name);
let view = null;
let index = 0;

function show(next) {
  const former = view;
  view = next && next.figure ? next : null;
  card.hidden = !view;
  if (!view) return;
  const last = view.frames.length - 1;
  const follows = !former || former.key !== view.key || index >= former.frames.length - 1;
  index = follows ? last : Math.min(index, last);
  part("h2").textContent = view.title;
  part("h2").hidden = !view.title;
  part(".lens-sub").textContent = view.subtitle;
  part(".lens-sub").hidden = !view.subtitle;
  scrub.hidden = last < 1;
  slider.max = last;
  slider.value = index;
  drawActions();
  draw();
}

function draw() {
  const frame = view.frames[index];
  if (frame) lens.scrubTo(view.key, frame.step);
  const sentence = frame ? frame.sentence : view.sentence;
  part("output").textContent = frame ? frame.label : "";
  slider.setAttribute("aria-valuetext", frame ? frame.label : "");
  part(".lens-says").textContent = sentence;
  part(".lens-says").hidden = !sentence;
  plot.setAttribute("aria-label", sentence || view.title);
  lens.paint(plot, figure()).then(() => plot.lensMove).then(() => {
    card.dataset.drawn = view.key + ":" + (frame ? frame.label : ""); // tests wait for this
  });
}

// As it is shown at the step chosen.
function figure() {
  const moved = view.frames.length ? view.frames[index].values : {};
  const data = view.figure.data.map((trace, i) => (i in moved ? { ...trace, y: moved[i] } : trace));
  return { data, layout: view.figure.layout };
}

function nameFile(ending) {
  const frame = view.frames[index];
  return `${view.stem}${frame ? "-step-" + frame.step : ""}.${ending}`;
}

function drawActions() {
  part(".lens-actions").hidden = !view.stem;
  if (!view.stem || part(".lens-actions").children.length) return; // a button under the pointer stays
  const csv = lens.button("CSV", () => {
    const text = lens.table(figure(), view.plots, view.axes);
    lens.download(nameFile("csv"), new Blob([text], { type: "text/csv" }));
  });
  const pictures = ["png", "svg"].map((format) =>
    lens.button(format.toUpperCase(), async () => {
      const frame = view.frames[index];
      const about = { title: view.title + (frame ? " · " + frame.label : ""), words: view.subtitle, format };
      lens.download(nameFile(format), await lens.picture(plot, figure(), about));
    }),
  );
  part(".lens-actions").replaceChildren(csv, ...pictures);
}

slider.addEventListener("input", () => {
  index = Number(slider.value);
  draw();
});
watch("value", () => show(props.value));
lens.onTheme(() => view && draw());
show(props.value);
