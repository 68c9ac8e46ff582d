// A table of stages; see stages.py.
const body = element.querySelector("tbody");
const add = element.querySelector(".lens-add");
const CELLS = [
  ["T of generation", 0.01],
  ["δ of generation", 0.01],
  ["T of understanding", 0.01],
  ["δ of understanding", 0.01],
];
let value = null;
let known = ""; // what the table shows; the page's own edits come back by themselves

const first = (index) => (index ? Number(value.rows[index - 1][0]) || 0 : 0) + 1;
const mark = () => JSON.stringify([value.layers, value.rows]);

function show(next) {
  if (!next || !next.rows) return;
  value = structuredClone(next);
  if (mark() !== known) draw();
  known = mark();
}

function draw() {
  body.replaceChildren(...value.rows.map(makeRow));
  name();
}

function makeRow(row, index) {
  const line = document.createElement("tr");
  const last = index === value.rows.length - 1;
  const layers = document.createElement("td");
  layers.append(document.createElement("span"), makeInput(index, 0, 1, last));
  const cells = CELLS.map(([, step], i) => {
    const cell = document.createElement("td");
    cell.append(makeInput(index, i + 1, step));
    return cell;
  });
  const actions = document.createElement("td");
  actions.append(makeButton("÷", () => split(index)), makeButton("×", () => remove(index)));
  line.append(layers, ...cells, actions);
  return line;
}

function makeInput(index, column, step, fixed) {
  const input = document.createElement("input");
  Object.assign(input, { type: "number", step, min: 0, value: value.rows[index][column] ?? "", readOnly: Boolean(fixed) });
  input.addEventListener("input", () => {
    value.rows[index][column] = input.value === "" ? null : Number(input.value);
    name();
    tell();
  });
  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter") body.rows[index + 1]?.querySelectorAll("input")[column].focus();
  });
  return input;
}

function makeButton(text, act) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = text;
  button.addEventListener("click", act);
  return button;
}

// First layers, and what each field and button is called, follow from the rows above.
function name() {
  [...body.rows].forEach((line, index) => {
    const where = `layers ${first(index)} to ${value.rows[index][0] ?? "?"}`;
    line.querySelector("span").textContent = `${first(index)} –`;
    const [to, ...cells] = line.querySelectorAll("input");
    to.ariaLabel = `Last layer of stage ${index + 1}`;
    cells.forEach((cell, i) => (cell.ariaLabel = `${CELLS[i][0]}, ${where}`));
    const [cut, drop] = line.querySelectorAll("button");
    Object.assign(cut, { ariaLabel: `Split the stage of ${where}`, title: "Split", disabled: !canSplit(index) });
    Object.assign(drop, { ariaLabel: `Remove the stage of ${where}`, title: "Remove", disabled: value.rows.length < 2 });
  });
  add.disabled = !value.rows.some((row, index) => canSplit(index));
}

const canSplit = (index) => Number(value.rows[index][0]) > first(index);

function split(index) {
  const [last, ...rest] = value.rows[index];
  value.rows.splice(index, 1, [Math.floor((first(index) + last - 1) / 2), ...rest], [last, ...rest]);
  change(index + 1);
}

// The stage above takes its layers; the first one's go to the one below.
function remove(index) {
  const [gone] = value.rows.splice(index, 1);
  if (index) value.rows[index - 1][0] = gone[0];
  change(Math.max(index - 1, 0));
}

add.addEventListener("click", () => {
  const sizes = value.rows.map((row, index) => (canSplit(index) ? row[0] - first(index) : 0));
  split(sizes.lastIndexOf(Math.max(...sizes)));
});

function change(index) {
  draw();
  body.rows[index].querySelectorAll("input")[1].focus();
  tell();
}

function tell() {
  known = mark();
  value.edited = true;
  props.value = structuredClone(value);
  trigger("edit");
}

watch("value", () => show(props.value));
show(props.value);
