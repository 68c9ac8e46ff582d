// The row above the closer views; see viewbar.py.
const tabs = [...element.querySelectorAll("[role=tab]")];
const select = element.querySelector("select");
const GROUPS = { understanding: "Answers", generation: "Drawings" };

function mark() {
  const front = lens.closer.inFront() || tabs[0].dataset.view;
  for (const tab of tabs) {
    const on = tab.dataset.view === front;
    tab.setAttribute("aria-selected", String(on));
    tab.tabIndex = on ? 0 : -1;
  }
}

tabs.forEach((tab, index) => {
  tab.addEventListener("click", () => lens.closer.set({ closer: tab.dataset.view }));
  tab.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const next = tabs[(index + step + tabs.length) % tabs.length];
    lens.closer.set({ closer: next.dataset.view });
    next.focus();
  });
});

// --- what to compare with: a recent capture, or one whose link is pasted ---

const PASTE = "paste";
const ID = "[0-9a-f]{24}(?:\\.[0-9a-f]{16})?"; // the second part opens what somebody else made
const pasted = element.querySelector(".lens-paste"), message = element.querySelector(".lens-message");
let front = null;

async function fill() {
  let partners = [];
  try {
    partners = (await lens.closer.read("partners")).partners;
  } catch {
    // the view in front says what is wrong
  }
  const tasks = Object.keys(GROUPS).sort((a, b) => (b === front?.task) - (a === front?.task)); // alike ones first
  const groups = tasks.map((task) => {
    const group = Object.assign(document.createElement("optgroup"), { label: GROUPS[task] });
    group.append(...partners.filter((one) => one.task === task).map((one) => new Option(`${one.name} · ${one.about}`, one.id)));
    return group;
  });
  select.replaceChildren(new Option("nothing", ""), ...groups.filter((group) => group.children.length), new Option("paste a link …", PASTE));
  choose(lens.closer.get("with"));
}

// The option of a capture, by its id or its link; one that is not among the recent ones is added.
function choose(chosen) {
  const same = (option) => chosen && option.value.slice(0, 24) === chosen.slice(0, 24);
  let option = [...select.options].find(same);
  if (chosen && !option) select.add((option = new Option("the one that was linked", chosen)), 1);
  select.value = option ? option.value : "";
}

function say(sentence) {
  message.textContent = sentence;
  message.hidden = !sentence;
}

function ask(asking) {
  pasted.hidden = !asking;
  pasted.value = "";
  say("");
  if (asking) pasted.focus();
}

select.addEventListener("change", () => {
  ask(select.value === PASTE);
  if (select.value !== PASTE) lens.closer.set({ with: select.value });
});
pasted.addEventListener("keydown", ({ key }) => {
  if (key === "Enter") take(pasted.value.trim());
  if (key === "Escape") [ask(false), choose(lens.closer.get("with")), select.focus()];
});
pasted.addEventListener("paste", () => setTimeout(() => take(pasted.value.trim())));

// A capture's id, or an address of the page that shows one.
function take(text) {
  const found = new RegExp(`^(?:capture:)?(${ID})$`).exec(text) || new RegExp(`[?&]capture=(${ID})(?:[&#]|$)`).exec(text);
  if (!text) return;
  if (!found) return say(`Expected the link of a capture, or its id, got “${text.slice(0, 40)}”; copy it with “Copy link”.`);
  if (found[1].slice(0, 24) === front?.id.slice(0, 24)) return say("That is the capture in front; paste the link of another.");
  ask(false);
  lens.closer.set({ with: found[1] });
}

lens.closer.onSet((keys) => {
  mark();
  if (keys.includes("with") && select.value !== lens.closer.get("with")) fill();
});
lens.onCapture((next) => (front = next));
lens.onCapture(() => (element.querySelector(".lens-viewbar").hidden = false));
lens.closer.onLook(fill);
lens.closer.watchSight(element.closest("#lens-closer"));
queueMicrotask(mark);
