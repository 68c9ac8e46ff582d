// Does it matter? What an answer or a drawing loses when it may not look across, window by window of layers; see
// app/closer/matters.py. Asks its own route, which runs the model only when a button asks for it.
const part = (name) => element.querySelector(name);
const card = part(".lens-view");
const LOST = "Expected a result from the server, got none; check that it is running, then try again.";
const STOPPED = "Stopped; what was found before is shown.";
part(".lens-view-body").innerHTML = `
  <div class="lens-matters-controls">
    <label>Window <input type="range" class="lens-matters-width" min="1" value="1" aria-label="Layers in a window" /> <output></output></label>
    <label>Rows <select class="lens-matters-way" aria-label="Rows that lose it"><option value="">that choose tokens</option><option value="any">all behind it</option></select></label>
    <label>Controls <select class="lens-matters-draws" aria-label="Random controls"><option value="0">none</option><option value="">3 draws</option><option value="10">10 draws</option></select></label>
    <button type="button" class="lens-matters-run">Knock out</button>
  </div>
  <p class="lens-matters-stage" aria-live="polite" hidden><span></span><i><b></b></i><button type="button" class="lens-matters-stop">Stop</button></p>
  <p class="lens-matters-said" role="alert" hidden></p>
  <div class="lens-plot" role="img"></div>`;
part(".lens-actions").insertAdjacentHTML(
  "afterend",
  `<div class="lens-matters-more">
    <div class="lens-matters-tokens" data-map="tokens"></div>
    <div class="lens-actions lens-matters-files" role="group" aria-label="Export of the map"></div>
    <div class="lens-matters-byhead">
      <h3>By head</h3>
      <p class="lens-sub">The same with single heads. Where heads make up for one another, cutting one costs little: then leave one looking and cut all others. Click a head to pin it, for Heads and Space as well.</p>
      <div class="lens-matters-controls">
        <label>One head alone <select class="lens-matters-alone" aria-label="One head alone"><option value="">still looks, all others do not</option><option value="cut">does not look</option></select></label>
        <button type="button" class="lens-matters-heads">Try every head</button>
      </div>
      <div class="lens-maps lens-matters-headmaps"><div data-map="heads-0"></div><div data-map="heads-1"></div></div>
      <p class="lens-matters-headsays lens-says" aria-live="polite"></p>
      <div class="lens-actions lens-matters-headfiles" role="group" aria-label="Export of the heads"></div>
    </div>
    <div class="lens-matters-again">
      <h3>Made again without it</h3>
      <p class="lens-sub">The same seed and settings, with one window forbidden: choose it here, on the chart or on the map.</p>
      <div class="lens-matters-controls">
        <label>Without <select class="lens-matters-cut" aria-label="Layers that lose it"></select></label>
        <button type="button" class="lens-matters-remake">Make it again</button>
      </div>
      <div class="lens-matters-made"></div>
    </div>
  </div>`,
);
const [widthInput, wayInput, drawsInput, cutInput] = [".lens-matters-width", ".lens-matters-way", ".lens-matters-draws", ".lens-matters-cut"].map(part);
const [runButton, stopButton, remakeButton] = [".lens-matters-run", ".lens-matters-stop", ".lens-matters-remake"].map(part);
const plot = part(".lens-plot");
const [aloneInput, headsButton] = [".lens-matters-alone", ".lens-matters-heads"].map(part);
const headMaps = [0, 1].map((i) => lens.heatmap(part(`[data-map="heads-${i}"]`), { pick: pickHead }));
const map = lens.heatmap(part(".lens-matters-tokens"), { pick: ([layer]) => set({ cut: get("cut") === String(layer + 1) ? "" : layer + 1 }) });

let data = null; // what read_matters says
let view = null; // what show_matters says
let front = null;
let asking = null; // what can stop the present question
let painting = Promise.resolve(); // one drawing after the other

const get = (key) => lens.closer.get(key);
const set = (changes) => lens.closer.set(changes);
const headPinned = () => {
  const found = /^(\d+)\.(\d+)$/.exec(get("head"));
  return found ? [found[2] - 1, found[1] - 1] : null; // "layer.head" → [row, column]
};
function pickHead([head, layer]) {
  const name = `${layer + 1}.${head + 1}`;
  set({ head: get("head") === name ? "" : name });
}
const width = () => get("width") || String(data.captures[0].width);

// --- asking ---

async function ask(run = "") {
  if (!data) return;
  asking?.abort();
  const mine = (asking = new AbortController());
  busy(run);
  let said = "";
  try {
    for await (const update of updates(run, mine.signal)) {
      if (mine !== asking) return;
      if (update.view) show(update.view);
      else if (update.error) said = update.error;
      else stage(update);
    }
  } catch (error) {
    if (mine !== asking && mine.signal.aborted) return; // another question took its place
    if (!mine.signal.aborted) console.warn(error);
    said = mine.signal.aborted ? STOPPED : LOST;
  }
  if (mine !== asking) return;
  asking = null;
  idle();
  say(said);
  card.dataset.asked = [front.id, get("with"), width(), get("way"), get("draws"), get("cut"), front.definition, run].join("|"); // tests wait for this
}

async function* updates(run, signal) {
  const values = { capture: front.id, with: get("with"), definition: front.definition, run };
  for (const key of ["width", "way", "draws", "cut", "alone"]) values[key] = get(key);
  const body = JSON.stringify(Object.fromEntries(Object.entries(values).filter(([, value]) => value)));
  const response = await fetch("lens/matters", { method: "POST", headers: { "Content-Type": "application/json" }, body, signal });
  let last = false;
  for await (const line of lens.lines(response.body)) {
    const update = JSON.parse(line);
    last = Boolean(update.view || update.error);
    yield update;
  }
  if (!last) throw new Error("the connection ended before its result");
}

function busy(run) {
  if (!run) return;
  const from = { knockout: runButton, heads: headsButton, remake: remakeButton }[run];
  from.closest(".lens-matters-controls").after(part(".lens-matters-stage"), part(".lens-matters-said"));
  runButton.disabled = remakeButton.disabled = headsButton.disabled = true;
  card.dataset.run = "running";
  stage({ stage: "asked", share: null });
  say("");
}

function idle() {
  part(".lens-matters-stage").hidden = true;
  card.dataset.run = "";
  fillControls();
  if (view) [drawHeads(), drawMade()]; // their buttons
}

function stage({ stage: words, share }) {
  const line = part(".lens-matters-stage");
  line.hidden = false;
  line.querySelector("span").textContent = words;
  line.querySelector("i").hidden = share === null;
  line.querySelector("b").style.width = `${100 * (share || 0)}%`;
}

function say(sentence) {
  const line = part(".lens-matters-said");
  line.textContent = sentence;
  line.hidden = !sentence;
}

// --- showing ---

function begin(next) {
  data = next;
  view = null;
  const sentence = data.captures.map(({ empty }) => empty).find(Boolean) || "";
  card.classList.toggle("lens-matters-empty", Boolean(sentence));
  if (sentence) {
    asking?.abort();
    asking = null;
    part(".lens-says").textContent = sentence;
    card.dataset.drawn = front.id + "|empty";
    return;
  }
  fillControls();
  ask();
}

function show(next) {
  view = next;
  part(".lens-says").textContent = view.sentence;
  part(".lens-explains").hidden = false;
  part(".lens-explains").replaceChildren(...view.notes.map((words) => Object.assign(document.createElement("span"), { textContent: words + " " })));
  fillControls();
  draw();
  drawTokens();
  drawHeads();
  drawMade();
}

function draw() {
  const { figure, sentence } = view;
  plot.style.height = figure.layout.height + "px";
  plot.setAttribute("aria-label", sentence);
  const name = [front.id, get("with"), width(), get("way"), get("draws"), get("cut"), front.definition, view.known.join()].join("|");
  painting = painting.then(() => lens.paint(plot, figure)).catch(console.error);
  painting.then(() => plot.lensMove).then(() => {
    card.dataset.drawn = name;
    if (plot.lensHears) return;
    plot.lensHears = true;
    plot.on("plotly_click", ({ points }) => points.length && set({ cut: get("cut") === String(points[0].x) ? "" : points[0].x }));
  });
}

const sliceOf = () => view.tokens[0];
function drawTokens() {
  const tokens = sliceOf(), host = part(".lens-matters-tokens");
  host.hidden = !tokens;
  part(".lens-matters-files").hidden = !tokens;
  if (!tokens) return;
  const what = tokens.task === "generation" ? "patch" : "word";
  map.draw(tokens.map, {
    title: `Drop by ${what}: which ${what === "patch" ? "patches" : "words"} rest on which layers`,
    scale: "difference",
    unit: "nats",
    rowTitle: "layer",
    columnTitle: what === "patch" ? "patch, in the order drawn" : "word of the answer",
    columnNames: tokens.names || undefined,
    height: 200,
    widest: 44,
    label: `Drop of log-probability by layer and ${what}. Arrow keys move, Enter chooses the window.`,
    empty: `Point at a ${what} to read it; click to choose its window.`,
    says: (layer, token, value) => `Without ${view.windows[layer]}, ${tokens.names ? `“${tokens.names[token]}”` : `patch ${token + 1}`}: ${value < 0 ? "gains" : "loses"} ${Math.abs(value).toFixed(2)} nats`,
  });
}

function drawHeads() {
  const { maps: sent, keep, sentence, passes } = view.heads;
  const alone = sent.length === 1;
  [0, 1].forEach((i) => {
    const host = part(`[data-map="heads-${i}"]`), { task, name } = data.captures[i] || {};
    host.hidden = !sent[i];
    if (host.hidden) return;
    headMaps[i].pin(headPinned());
    headMaps[i].draw(sent[i], {
      title: (alone ? "" : `${"AB"[i]}: `) + `${keep ? "What each head gives back by itself" : "What is lost without each head"} · ${name}`,
      scale: "difference",
      unit: "nats",
      rowTitle: "head",
      columnTitle: "layer",
      height: 210,
      label: "Heads by layers. Arrow keys move, Enter pins.",
      empty: "Point at a head to read it.",
      says: (head, layer, value) => `Layer ${layer + 1}, head ${head + 1}: ${keep ? "alone looking at" : "alone not looking at"} ${task === "generation" ? "the prompt" : "the image"}, ${keep ? "gives back" : "costs"} ${value.toFixed(2)} nats`,
    });
  });
  part(".lens-matters-headmaps").classList.toggle("lens-alone", alone);
  part(".lens-matters-headsays").textContent = sentence;
  part(".lens-matters-headsays").hidden = !sentence;
  part(".lens-matters-headfiles").hidden = !sentence;
  headsButton.disabled = sent.every(Boolean) || card.dataset.run === "running";
  headsButton.title = headsButton.disabled ? "Found before and kept" : `${passes} passes of the model`;
  card.dataset.heads = [keep ? "look" : "cut", sent.every(Boolean)].join("|"); // tests wait for this
}

function drawMade() {
  const holder = part(".lens-matters-made");
  holder.replaceChildren(...view.remade.filter(Boolean).map((made) => (made.pictures ? picturesOf(made) : textsOf(made))));
  cutInput.replaceChildren(
    new Option("choose layers", ""),
    ...view.windows.map((name, i) => new Option(name, i + 1)),
    new Option("all layers", "all"),
  );
  cutInput.value = get("cut");
  remakeButton.disabled = !get("cut") || card.dataset.run === "running" || view.remade.every(Boolean);
}
const tag = (name, words, className = "") => Object.assign(document.createElement(name), { textContent: words, className });

function textsOf({ before, after, sentence }) {
  const made = tag("div", "", "lens-matters-texts");
  made.append(tag("span", "with it"), tag("q", before), tag("span", "without"), tag("q", after || "(nothing)"), tag("p", sentence));
  return made;
}

// Patches that came out otherwise are framed.
function picturesOf({ pictures, changed, grid: [rows, columns], sentence }) {
  const made = tag("div", "", "lens-matters-pictures");
  pictures.forEach((url, i) => {
    const figure = document.createElement("figure");
    const frame = tag("div", "", "lens-matters-frame");
    frame.append(Object.assign(new Image(), { src: url, alt: i ? "The drawing without it" : "The drawing" }));
    if (i) {
      const path = changed.map((patch) => `M${patch % columns} ${Math.floor(patch / columns)}h1v1h-1z`).join("");
      frame.insertAdjacentHTML("beforeend", `<svg viewBox="0 0 ${columns} ${rows}" preserveAspectRatio="none" aria-hidden="true"><path d="${path}"/></svg>`);
    }
    figure.append(tag("figcaption", i ? "without; patches with another code are framed" : "with it"), frame);
    made.append(figure);
  });
  made.append(tag("p", sentence));
  return made;
}

function fillControls() {
  const [{ layers }] = data.captures;
  widthInput.max = Math.min(...data.captures.map((one) => one.layers));
  widthInput.value = width();
  widthInput.nextElementSibling.textContent = `${width()} of ${layers} layer${layers > 1 ? "s" : ""}`;
  wayInput.value = get("way");
  if (![...drawsInput.options].some(({ value }) => value === get("draws"))) drawsInput.append(new Option(`${get("draws")} draws`, get("draws")));
  drawsInput.value = get("draws");
  aloneInput.value = get("alone");
  const known = view?.known.every(Boolean);
  runButton.disabled = !view || known || card.dataset.run === "running";
  runButton.textContent = known ? "Knocked out" : "Knock out";
  runButton.title = known ? "Found before and kept" : view ? `${view.passes} passes of the model at least` : "";
}

// --- hands ---

widthInput.addEventListener("input", () => {
  widthInput.nextElementSibling.textContent = `${widthInput.value} of ${data.captures[0].layers} layers`;
  set({ width: Number(widthInput.value) === data.captures[0].width ? "" : widthInput.value });
});
wayInput.addEventListener("change", () => set({ way: wayInput.value }));
drawsInput.addEventListener("change", () => set({ draws: drawsInput.value }));
cutInput.addEventListener("change", () => set({ cut: cutInput.value }));
aloneInput.addEventListener("change", () => set({ alone: aloneInput.value }));
headsButton.addEventListener("click", () => ask("heads"));
runButton.addEventListener("click", () => ask("knockout"));
remakeButton.addEventListener("click", () => ask("remake"));
stopButton.addEventListener("click", () => {
  asking?.abort();
});

// --- taking along ---

const stem = () => `aia-lens-matters-${front.id.slice(0, 8)}`;
const pictureOf = (format) => async () => {
  const title = "Does it matter? · " + data.captures.map(({ name }) => name).join(" and ");
  lens.download(`${stem()}.${format}`, await lens.picture(plot, view.figure, { title, words: view.sentence, format }));
};
part(".lens-actions").replaceChildren(
  lens.button("CSV", () => lens.download(`${stem()}.csv`, new Blob([view.csv], { type: "text/csv" }))),
  lens.button("PNG", pictureOf("png")),
  lens.button("SVG", pictureOf("svg")),
  lens.copyButton(() => lens.placed("explore")),
);
lens.mapActions(part(".lens-matters-files"), () => ({
  title: "Drop by token · " + data.captures[0].name,
  words: view.sentence,
  stem: stem() + "-tokens",
  maps: [map],
}));

lens.mapActions(part(".lens-matters-headfiles"), () => ({
  title: "Does it matter? By head",
  words: view.heads.sentence,
  stem: stem() + "-heads",
  maps: headMaps.filter((one, i) => view.heads.maps[i]),
}));

part("h2").textContent = "Does it matter?";
part(".lens-sub").textContent =
  "How much less likely the same tokens become when looking at the other modality is forbidden in a window of layers; below, on the same layers, how much they look at it.";
lens.onTheme(() => view && draw());
lens.onCapture((next) => (front = next));
lens.closer.onSet((keys) => {
  if (!data || lens.closer.inFront() !== "matters" || card.classList.contains("lens-matters-empty")) return;
  if (keys.some((key) => ["width", "way", "draws", "cut", "alone"].includes(key))) ask();
  if (keys.includes("head")) headMaps.forEach((one) => one.pin(headPinned()));
});
lens.closer.add("matters", element, { show: begin, needs: ["definition"] });
