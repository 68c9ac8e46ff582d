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

// --- what to compare with ---

async function fill() {
  try {
    const { partners } = await lens.closer.read("partners");
    const groups = Object.entries(GROUPS).map(([task, label]) => {
      const group = Object.assign(document.createElement("optgroup"), { label });
      group.append(...partners.filter((one) => one.task === task).map((one) => new Option(`${one.name} · ${one.about}`, one.id)));
      return group;
    });
    select.replaceChildren(new Option("nothing", ""), ...groups.filter((group) => group.children.length));
  } catch {
    select.replaceChildren(new Option("nothing", "")); // the view in front says what is wrong
  }
  select.value = lens.closer.get("with");
}

select.addEventListener("change", () => lens.closer.set({ with: select.value }));
lens.closer.onSet(() => {
  mark();
  if (select.value !== lens.closer.get("with")) fill();
});
lens.onCapture(() => (element.querySelector(".lens-viewbar").hidden = false));
lens.closer.onLook(fill);
lens.closer.watchSight(element.closest("#lens-closer"));
queueMicrotask(mark);
