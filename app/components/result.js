// The result card; see result.py. A view that failed or was stopped only brings a sentence.
const card = element.querySelector(".lens-result");
const picture = element.querySelector(".lens-pic img");
const overlay = element.querySelector(".lens-overlay");
const part = (name) => element.querySelector(name);
let shown = null; // the last finished view
let pinned = -1; // index of the chip whose map is laid over the picture

function show(view) {
  if (!view) return;
  card.dataset.state = view.state;
  card.setAttribute("aria-busy", String(view.state === "running"));
  part(".lens-message").hidden = !view.message;
  part(".lens-message").textContent = view.message;
  if (view.state === "finished") shown = view;
  if (view.state === "running" || view.state === "finished") draw(view);
  else if (shown) draw(shown);
}

function draw(view) {
  const title = view.task === "understanding" ? "Answer" : "Drawing";
  card.dataset.task = view.task;
  part("h2").textContent = title;
  drawWords(view);
  part(".lens-prompt").textContent = view.prompt;
  picture.hidden = !view.picture;
  if (view.picture) picture.src = view.picture;
  picture.alt = view.task === "understanding" ? "The image as the model sees it" : "The drawing: " + view.prompt;
  drawProgress(view.progress);
  drawChips(view);
  part(".lens-hint").textContent = view.hint;
  pin(view, -1);
}

function drawWords(view) {
  part(".lens-facts").textContent = view.state === "running" ? (view.stage || "running") + " …" : view.facts;
  part(".lens-notices").replaceChildren(...view.notices.map((text) => textNode("p", text)));
}

function drawProgress(share) {
  const bar = part(".lens-progress");
  bar.hidden = share === null;
  if (share === null) return;
  bar.setAttribute("aria-valuenow", String(Math.round(share * 100)));
  bar.firstElementChild.style.width = share * 100 + "%";
}

function drawChips(view) {
  const words = view.answer.split(/\s+/).filter(Boolean);
  const chips = view.chips.map((chip, index) => {
    const button = textNode("button", chip.text);
    button.type = "button";
    button.title = chip.title;
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => {
      pin(view, pinned === index ? -1 : index);
      lens.closer.set({ word: pinned < 0 ? "" : pinned + 1, patch: "", play: "" }); // the Space view shows it closer
    });
    return button;
  });
  part(".lens-answer").replaceChildren(...(chips.length ? chips : words.map((word) => textNode("span", word))));
}

// Lay a chip's map over the picture, or take it away.
function pin(view, index) {
  pinned = index;
  [...part(".lens-answer").children].forEach((button, i) => {
    if (button.tagName === "BUTTON") button.setAttribute("aria-pressed", String(i === index));
  });
  const chip = view.chips[index];
  part(".lens-says").hidden = !chip;
  part(".lens-says").textContent = chip ? chip.says : "";
  overlay.hidden = !(chip && chip.map);
  if (chip && chip.map) paint(chip.map, view.grid);
}

function paint(map, [rows, columns]) {
  const bytes = Uint8Array.from(atob(map), (c) => c.charCodeAt(0));
  overlay.width = columns;
  overlay.height = rows;
  const context = overlay.getContext("2d");
  const pixels = context.createImageData(columns, rows);
  bytes.forEach((value, i) => pixels.data.set([255, 217, 138, value * 0.68], i * 4));
  context.putImageData(pixels, 0, 0);
}

function textNode(tag, text) {
  const node = document.createElement(tag);
  node.textContent = text;
  return node;
}

// A result is shown before it is kept.
function tell({ facts, notices }) {
  shown = { ...shown, facts, notices };
  drawWords(shown);
}

lens.cards.result = show;
lens.cards.keptResult = tell;
watch("value", () => show(props.value));
show(props.value);
