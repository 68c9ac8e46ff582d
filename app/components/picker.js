// A list to choose a few things from; see picker.py.
const part = (name) => element.querySelector(name);
const groups = part(".lens-groups");
const search = part("input");
const IS_ID = /:\/\/|^[?/]|^(capture|run|measurement|bundle|model|paper):|^[0-9a-f]{16}$|^[0-9a-f]{24}(\.[0-9a-f]{16})?$/;
let view = null;
let drawn = "";

const ids = () => view.chosen.map((item) => item.id);
const letter = (index) => String.fromCharCode(65 + index);

function show(next) {
  if (!next || !next.items) return;
  view = next;
  part(".lens-chosen").replaceChildren(...view.chosen.map(makeChosen));
  say(".lens-nothing", view.chosen.length ? "" : view.empty);
  say(".lens-message", view.message);
  const items = JSON.stringify(view.items);
  if (items !== drawn) drawGroups();
  drawn = items;
  mark();
  filter();
  lens.place(part(".lens-picker").dataset.tab, view.link);
}

function say(name, text) {
  part(name).textContent = text;
  part(name).hidden = !text;
}

function make(tag, name, text) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  return made;
}

function makeChosen(item, index) {
  const row = make("li");
  const remove = make("button", "lens-clear", "×");
  remove.type = "button";
  remove.setAttribute("aria-label", "Leave out " + item.name);
  remove.addEventListener("click", () => trigger("choose", { ids: ids().filter((id) => id !== item.id) }));
  const words = make("span", "lens-words");
  words.append(make("span", "lens-name", item.name), make("span", "lens-about", item.about));
  row.append(make("b", "", letter(index)), words, remove);
  return row;
}

function drawGroups() {
  const names = [...new Set(view.items.map((item) => item.group))];
  groups.replaceChildren(
    ...names.map((name) => {
      const group = make("section");
      group.setAttribute("aria-label", name);
      group.append(make("h3", "", name), ...view.items.filter((item) => item.group === name).map(makeRow));
      return group;
    }),
  );
}

function makeRow(item) {
  const row = make("button");
  row.type = "button";
  row.dataset.id = item.id;
  row.append(make("span", "lens-name", item.name), make("span", "lens-about", item.about));
  row.addEventListener("click", () => {
    const now = ids();
    trigger("choose", { ids: now.includes(item.id) ? now.filter((id) => id !== item.id) : [...now, item.id] });
  });
  return row;
}

// Rows stay where they are; only what is pressed or cannot be added changes.
function mark() {
  const now = ids();
  for (const row of groups.querySelectorAll("button")) {
    const on = now.includes(row.dataset.id);
    row.setAttribute("aria-pressed", String(on));
    row.disabled = !on && now.length >= view.most;
  }
}

function filter() {
  const text = search.value.trim().toLowerCase();
  const wanted = IS_ID.test(text) ? "" : text;
  for (const group of groups.children) {
    for (const row of group.querySelectorAll("button")) {
      row.hidden = !(row.textContent + " " + group.ariaLabel).toLowerCase().includes(wanted);
    }
    group.hidden = !group.querySelector("button:not([hidden])");
  }
}

search.addEventListener("input", filter);
part("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = search.value.trim();
  const first = groups.querySelector("section:not([hidden]) button:not([hidden]):not([aria-pressed='true'])");
  if (!text) return;
  if (IS_ID.test(text) || !first) trigger("paste", { ids: ids(), text });
  else first.click();
  search.value = "";
  filter();
});
watch("value", () => show(props.value));
show(props.value);
