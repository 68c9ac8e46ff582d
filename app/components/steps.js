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
  draw();
}

function draw() {
  const frame = view.frames[index];
  const sentence = frame ? frame.sentence : view.sentence;
  part("output").textContent = frame ? frame.label : "";
  slider.setAttribute("aria-valuetext", frame ? frame.label : "");
  part(".lens-says").textContent = sentence;
  part(".lens-says").hidden = !sentence;
  plot.setAttribute("aria-label", sentence || view.title);
  const moved = frame ? frame.values : {};
  const data = view.figure.data.map((trace, i) => (i in moved ? { ...trace, y: moved[i] } : trace));
  lens.paint(plot, { data, layout: view.figure.layout }).then(() => {
    card.dataset.drawn = view.key + ":" + (frame ? frame.label : ""); // tests wait for this
  });
}

slider.addEventListener("input", () => {
  index = Number(slider.value);
  draw();
});
watch("value", () => show(props.value));
lens.onTheme(() => view && draw());
show(props.value);
