// Sends what the form holds to the server and hands the cards what comes back, a line of JSON at a time; see stream.py.
Object.assign(
  window.lens,
  (() => {
    const STOPPED = "Stopped; the result below is the one before.";
    const LOST = "Expected a result from the server, got none; check that it is running, then try again.";
    const cards = {}; // what shows a view of that name: each card puts itself here
    let running = null; // the run of this page: what can stop it, and whether its result is shown already

    async function run(values) {
      if (running && !running.shown) return;
      stop(); // a result that is shown is kept, whether or not somebody waits for that
      const own = (running = new AbortController());
      markRunning();
      try {
        await follow(values, own);
      } catch (error) {
        const stopped = own.signal.aborted;
        if (stopped && own.shown) return;
        if (!stopped) console.warn(error);
        cards.result({ state: stopped ? "stopped" : "failed", message: stopped ? STOPPED : LOST });
      } finally {
        if (running === own) running = null;
      }
    }

    const stop = () => running && running.abort();

    // Shows every update of one run; throws when none of them was the last.
    async function follow(values, own) {
      let over = false;
      for await (const line of lines((await post(values, own.signal)).body)) {
        const update = JSON.parse(line);
        show(update);
        own.shown ||= Boolean(update.curve);
        over = Boolean(update.kept) || update.result.state === "failed";
      }
      if (!over) throw new Error("the connection ended before the run");
    }

    // Previews stay here: the server has the pictures.
    function post(values, signal) {
      const body = JSON.stringify(values, (key, value) => (key === "preview" ? undefined : value));
      return fetch("@run", { method: "POST", headers: { "Content-Type": "application/json" }, body, signal });
    }

    async function* lines(stream) {
      const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        const whole = (rest + value).split("\n");
        rest = whole.pop();
        yield* whole.filter(Boolean);
      }
    }

    function show({ result, curve, state, kept }) {
      if (curve) cards.curve(curve);
      if (state) document.querySelector("#lens-state .lens-words").textContent = state;
      if (result) cards.result(result);
      if (kept) for (const card of [cards.keptResult, cards.keptCurve]) card(kept);
    }

    // The result card shows at once that a run was asked for, before the server answers.
    function markRunning() {
      const card = document.querySelector(".lens-result");
      card.dataset.state = "running";
      if (card.getBoundingClientRect().top > innerHeight - 120) card.scrollIntoView({ behavior: "smooth" });
    }

    return { run, stop, cards, lines };
  })(),
);
