// Sends what the form holds to the server and hands the cards what comes back, a line of JSON at a time; see stream.py.
Object.assign(
  window.lens,
  (() => {
    const STOPPED = "Stopped; the result below is the one before.";
    const LOST = "Expected a result from the server, got none; check that it is running, then try again.";
    const cards = {}; // what shows a view of that name: each card puts itself here
    let running = null; // what can stop the run of this page

    async function run(values) {
      if (running) return;
      running = new AbortController();
      markRunning();
      try {
        await follow(values, running.signal);
      } catch (error) {
        const stopped = running.signal.aborted;
        if (!stopped) console.warn(error);
        cards.result({ state: stopped ? "stopped" : "failed", message: stopped ? STOPPED : LOST });
      } finally {
        running = null;
      }
    }

    const stop = () => running && running.abort();

    // Shows every update of one run; throws when none of them was the last.
    async function follow(values, signal) {
      let state = "running";
      for await (const line of lines((await post(values, signal)).body)) {
        const update = JSON.parse(line);
        show(update);
        state = update.result.state;
      }
      if (state === "running") throw new Error("the connection ended before the run");
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

    function show({ result, curve, state }) {
      if (curve) cards.curve(curve);
      if (state) document.querySelector("#lens-state .lens-words").textContent = state;
      cards.result(result);
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
