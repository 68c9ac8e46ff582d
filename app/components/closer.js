// What the closer views have in common: the capture in front, their state, which is part of the address, and their data.
//   lens.onCapture(cb): { id, task, definition, with } whenever one of them changes, and at once where there is a capture
//   lens.closer.add(name, element, { show(data), needs }): a view; `needs` are the keys of the state, or "definition",
//     that its data depend on beside the capture and its partner. `show` also runs anew when they change.
//   lens.closer.get(key), set({ key: value, … }), onSet(cb(keys)): the state; empty values are left out of the address
//   lens.closer.read(source, values): a promise of data of any source of app/closer/registry.py
Object.assign(
  window.lens,
  (() => {
    const KEYS = ["closer", "with", ...("@keys")]; // the view in front, the partner, and what views say of themselves
    const OF_ONE = ["step", "patch", "word", "play"]; // these name a part of one capture, and go with it
    const MOST_KEPT = 12; // answers of the server; a capture never changes
    const ID = /^[0-9a-f]{24}(\.[0-9a-f]{16})?$/;
    const NOT_KEPT = "This result is not in the store, so there is nothing to look into; run it again, and if that does not help, free some space or ask for less.";
    const LOST = "Expected data from the server, got none; check that it is running, then try again.";
    const views = {};
    const callbacks = { capture: [], set: [], look: [] };
    const kept = new Map();
    const state = {};
    let front = null; // { id, task, definition }
    let looked = ""; // the id that was last looked at
    let inSight = false;

    const asked = new URLSearchParams(location.search);
    if (asked.has("capture")) KEYS.forEach((key) => asked.has(key) && (state[key] = asked.get(key).slice(0, 64)));
    const turnedTo = asked.has("capture") && asked.has("closer");

    // --- what is in front ---

    const capture = () => ({ ...front, with: state.with || "" });

    function showCapture(next) {
      const other = front && front.id !== next.id;
      front = next;
      if (other) OF_ONE.forEach((key) => delete state[key]);
      dropItself();
      remember();
      callbacks.capture.forEach((call) => call(capture()));
      refresh();
    }

    // A capture is not its own partner, by whichever of its links.
    function dropItself() {
      if (front && state.with && state.with.slice(0, 24) === front.id.slice(0, 24)) delete state.with;
    }

    function onCapture(call) {
      callbacks.capture.push(call);
      if (front) call(capture());
    }

    function set(changes) {
      for (const [key, value] of Object.entries(changes)) {
        if (value === null || value === undefined || value === "") delete state[key];
        else state[key] = String(value);
      }
      dropItself();
      remember();
      callbacks.set.forEach((call) => call(Object.keys(changes)));
      if ("with" in changes && front) callbacks.capture.forEach((call) => call(capture()));
      refresh();
    }

    const remember = () => lens.placeBeside("explore", new URLSearchParams(Object.entries(state)).toString());
    const inFront = () => (state.closer in views ? state.closer : Object.keys(views)[0]);

    // --- data ---

    // What is asked for twice at a time is fetched once; what failed is asked for anew.
    function read(source, values = {}) {
      const query = new URLSearchParams({ capture: front.id, ...(state.with ? { with: state.with } : {}), ...values });
      const url = `@closer/${source}?${query}`;
      if (kept.has(url)) return kept.get(url);
      const asking = ask(url);
      kept.set(url, asking);
      const forget = () => kept.get(url) === asking && kept.delete(url);
      asking.then(() => source === "partners" && forget(), forget);
      if (kept.size > MOST_KEPT) kept.delete(kept.keys().next().value);
      return asking;
    }

    async function ask(url) {
      let response, data;
      try {
        response = await fetch(url);
        data = await response.json();
      } catch (error) {
        console.warn(error);
        throw new Error(LOST, { cause: error });
      }
      if (data.error) throw new Error(data.error);
      return data;
    }

    // --- the views ---

    function add(name, element, { show, needs = [] }) {
      views[name] = { name, card: element.querySelector(".lens-view"), show, needs, told: "" };
      refresh();
    }

    function valuesOf({ needs }) {
      const values = { ...state, definition: front.definition };
      return Object.fromEntries(needs.filter((key) => values[key]).map((key) => [key, values[key]]));
    }

    // Shows the view in front what it lacks; nothing before the block is in sight.
    async function refresh() {
      const view = views[inFront()];
      for (const each of Object.values(views)) each.card.hidden = each !== view || !front;
      if (!view || !front) return;
      if (!ID.test(front.id)) return forget(view);
      if (!inSight) return;
      if (looked !== front.id) {
        looked = front.id;
        callbacks.look.forEach((call) => call());
      }
      const values = valuesOf(view);
      const query = JSON.stringify([front.id, state.with, values]);
      if (view.told === query) return;
      view.told = query;
      let data, sentence = "";
      try {
        data = await read(view.name, values);
      } catch (error) {
        sentence = error.message;
      }
      if (view.told !== query) return; // something else was asked for meanwhile
      if (sentence) view.told = ""; // turning to the view again tries again
      say(view, sentence);
      if (!sentence) view.show(data);
      view.card.dataset.of = [front.id, state.with].join("|"); // tests wait for this
    }

    function forget(view) {
      view.told = "";
      say(view, NOT_KEPT);
    }

    // One sentence instead of the view; an empty one brings the view back.
    function say(view, sentence) {
      const message = view.card.querySelector(".lens-message");
      message.textContent = sentence;
      message.hidden = !sentence;
      view.card.classList.toggle("lens-said", Boolean(sentence));
      view.card.dataset.state = sentence ? "failed" : "shown";
    }

    function watchSight(block) {
      new IntersectionObserver(
        (entries) => {
          inSight = entries.at(-1).isIntersecting;
          if (inSight) refresh();
        },
        { rootMargin: "120px" },
      ).observe(block);
      if (turnedTo) onFirst(() => block.scrollIntoView());
    }
    const onFirst = (call) => {
      let done = false;
      onCapture(() => {
        if (!done) requestAnimationFrame(call);
        done = true;
      });
    };

    const closer = {
      add, read, set, inFront, watchSight,
      get: (key) => state[key] || "",
      onSet: (call) => callbacks.set.push(call),
      onLook: (call) => callbacks.look.push(call),
    };
    return { showCapture, onCapture, closer };
  })(),
);
