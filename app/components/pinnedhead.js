// One head, pinned: its curve over the steps beside its layer's, and where it looked. `lens.pinnedHead(section)` →
// { show(front), pieces(), title(), says() }; `front` is { id, definition } of lens.onCapture. What it shows comes from
// app/closer/heads.py; the map of a single head is computed anew by the model, so it comes a little later.
Object.assign(
  window.lens,
  (() => {
    const LETTERS = ["A", "B"];
    const UNIT = { understanding: "of its attention on the image", generation: "of its attention on the text" };
    const COLUMN = { understanding: "word of the answer", generation: "patch, in the order drawn" };
    const COLOUR = { understanding: "--lens-und", generation: "--lens-gen" };
    const LOOK = { understanding: "where it looked, mean of words", generation: "how much each patch looked at the prompt" };
    const LOOKING = " Looking at its map …";
    const get = (key) => lens.closer.get(key);

    function pinnedHead(section) {
      section.innerHTML = `
        <div class="lens-row"><h3></h3><div class="lens-tools"></div></div>
        <p class="lens-pinned-says" aria-live="polite"></p>
        <div class="lens-maps">
          <div data-curve="0"></div><div data-curve="1"></div>
          <div data-head-look="0"></div><div data-head-look="1"></div><div data-head-look="difference"></div>
        </div>`;
      const hostOf = (kind, name) => section.querySelector(`[data-${kind}="${name}"]`);
      const [title, says] = ["h3", ".lens-pinned-says"].map((name) => section.querySelector(name));
      const curves = {}, looks = {};
      for (const host of section.querySelectorAll("[data-curve]")) curves[host.dataset.curve] = lens.stepCurve(host);
      for (const host of section.querySelectorAll("[data-head-look]")) looks[host.dataset.headLook] = lens.patchMap(host, { pick: pickPatch });
      section.querySelector(".lens-tools").append(
        lens.button("See it in Space", () => lens.closer.set({ closer: "space" })),
        lens.button("Unpin", () => lens.closer.set({ head: "" })),
      );
      let turn = 0; // the last head asked for

      async function show(front) {
        const mine = ++turn, found = /^(\d+)\.(\d+)$/.exec(get("head"));
        section.hidden = !found;
        if (!found || lens.closer.inFront() !== "heads") return;
        const head = get("head");
        title.textContent = `Head ${found[2]} of layer ${found[1]}`;
        const values = { head, definition: front.definition, ...(get("fed") ? { fed: get("fed") } : {}) };
        const [own, wrong] = await tryTo(async () => (await lens.closer.read("head", values)).captures);
        if (mine !== turn) return;
        const said = wrong || together(own.map((one) => one.error || one.empty || one.sentence));
        says.textContent = said + LOOKING;
        section.setAttribute("aria-busy", "true"); // what hangs below is of the head before
        drawCurves(own || []);
        const [seen, missing] = await tryTo(() => Promise.all([lens.closer.read("space-map", { head }), lens.closer.read("space")]));
        if (mine !== turn) return;
        const looked = seen ? await drawLooks(...seen) : missing;
        if (mine !== turn) return;
        section.setAttribute("aria-busy", "false");
        if (!seen) hideLooks();
        says.textContent = `${said} ${looked}`.trim();
        section.dataset.drawn = [front.id, get("with"), head].join("|"); // tests wait for this
      }
      // What came, or the sentence on why it did not.
      async function tryTo(work) {
        try {
          return [await work(), ""];
        } catch (error) {
          return [null, error.message];
        }
      }
      // Of a pair, one sentence with its letter each; one for both where they say the same.
      const together = (said) => (new Set(said).size === 1 ? said[0] : said.map((words, i) => `${LETTERS[i]}: ${words}`).join(" "));

      // --- over the steps ---

      function drawCurves(found) {
        const whole = found.map((one) => one.curves && lens.unpackMap(one.curves));
        const high = Math.max(0.02, ...whole.filter(Boolean).map((map) => map.high));
        for (const i of [0, 1]) {
          hostOf("curve", i).hidden = !whole[i] || !whole[i].columns || Boolean(found[i].empty);
          if (!hostOf("curve", i).hidden) curves[i].draw(curveOf(found[i], whole[i], high, found.length > 1 ? `${LETTERS[i]}: ` : ""));
        }
      }

      // --- on the picture ---

      function hideLooks() {
        for (const name of Object.keys(looks)) hostOf("head-look", name).hidden = true;
      }

      // → a sentence on where it looks.
      async function drawLooks({ slices }, { captures, note }) {
        const found = captures.map((capture, i) => (capture.empty || slices[i].error ? null : { ...capture, values: meanLook(capture, slices[i]) }));
        const pictures = await Promise.all(found.map((one) => one && load(one.picture)));
        const highs = found.map((one) => Math.max(1e-9, ...(one ? one.values.filter(Number.isFinite) : [])));
        const common = captures.every(({ task }) => task === captures[0].task); // of two tasks each has a scale of its own
        hideLooks();
        found.forEach((one, i) => one && drawLook(i, one, pictures[i], common ? Math.max(...highs) : highs[i], found.length > 1 ? `${LETTERS[i]}: ` : ""));
        if (found.length > 1 && found.every(Boolean) && !note) drawDifference(...found);
        return together(captures.map((capture, i) => sayLook(found[i], capture.empty || slices[i].error)));
      }

      function drawLook(i, one, picture, high, letter) {
        const unit = one.task === "understanding" ? "of a word's attention" : "of a patch's attention";
        hostOf("head-look", i).hidden = false;
        looks[i].draw({
          ...frameOf(one), picture, low: 0, high, scale: "share", unit,
          title: letter + LOOK[one.task],
          label: `${letter}${LOOK[one.task]}. Arrow keys move, Enter goes to Space.`,
          says: (patch, value) => `${placeOf(one, patch)}: ${lens.readNumber(value)} ${unit}`,
        });
      }

      function drawDifference(a, b) {
        const values = a.values.map((value, patch) => value - b.values[patch]), unit = "difference of attention";
        const high = Math.max(1e-9, ...values.filter(Number.isFinite).map(Math.abs));
        hostOf("head-look", "difference").hidden = false;
        looks.difference.draw({
          ...frameOf({ ...a, values }), picture: null, low: -high, high, scale: "difference", unit, title: "A − B",
          label: "Difference of where the head looked. Arrow keys move, Enter goes to Space.",
          says: (patch, value) => `${placeOf(a, patch)}: ${lens.readNumber(value)} ${unit}`,
        });
      }

      // --- taking along ---

      function pieces() {
        if (section.hidden) return [];
        const lines = Object.entries(curves).filter(([i]) => !hostOf("curve", i).hidden).map(([, curve]) => curve);
        const seen = Object.entries(looks).filter(([i, look]) => !hostOf("head-look", i).hidden && look.current().shown);
        return [...lines, ...seen.map(([, look]) => ({ piece: () => pieceOf(look) }))];
      }

      return { show, pieces, title: () => (section.hidden ? "" : title.textContent), says: () => (section.hidden ? "" : says.textContent) };
    }

    function pickPatch(patch) {
      if (patch !== null) lens.closer.set({ closer: "space", patch: patch + 1, word: "", play: "" });
    }

    function curveOf(capture, map, high, letter) {
      const { task, tokens, grid, prefill } = capture;
      const values = (row) => Array.from({ length: map.columns }, (_, step) => lens.mapValue(map, row, step));
      const [own, layer] = [values(0), values(1)];
      const nameOf = (step) => (task === "understanding" ? `word ${step + 1} “${tokens[step].text}”` : `patch in row ${Math.floor(step / grid[1]) + 1}, column ${(step % grid[1]) + 1}`);
      const number = (value) => (Number.isFinite(value) ? value.toFixed(3) : "not fed back");
      return {
        title: `${letter}step by step`,
        lines: [
          { name: "its layer, mean of heads", values: layer, colour: "--lens-before", width: 1.4 },
          { name: "this head", values: own, colour: COLOUR[task], width: 2 },
        ],
        high,
        unit: UNIT[task],
        columnTitle: COLUMN[task],
        columnPlaces: nameOf,
        after: prefill && map.columns > 1 ? 0 : undefined,
        empty: "Point at a step to read it.",
        label: `${letter}the pinned head and its layer, step by step. Arrow keys move.`,
        says: (step) => `${nameOf(step)}: head ${number(own[step])}, layer ${number(layer[step])}`,
      };
    }

    async function load(url) {
      const image = new Image();
      image.src = url;
      await image.decode();
      return image;
    }

    // An answer: the mean of its words on each patch. A drawing: each patch on the prompt's words.
    function meanLook({ task, rows, grid }, slice) {
      const cross = lens.unpackMap(slice.cross), rowOf = rows[Number(get("fed") === "1")];
      const at = (row, column) => lens.mapValue(cross, row, column);
      if (task === "generation") return rowOf.map((row) => (row < 0 ? NaN : Array.from({ length: cross.columns }, (_, word) => at(row, word)).reduce((a, b) => a + b, 0)));
      const looking = rowOf.filter((row) => row >= 0);
      return Array.from({ length: grid[0] * grid[1] }, (_, patch) => looking.reduce((sum, row) => sum + at(row, patch), 0) / Math.max(1, looking.length));
    }

    const frameOf = ({ grid, values }) => ({ grid, values, out: new Set(), chosen: new Set(), smooth: false, made: null, rests: null });
    const placeOf = ({ grid }, patch) => `row ${Math.floor(patch / grid[1]) + 1}, column ${(patch % grid[1]) + 1}`;

    function sayLook(one, sentence) {
      if (!one) return sentence;
      const best = one.values.reduce((at, value, patch) => (Number.isFinite(value) && !(value <= one.values[at]) ? patch : at), 0);
      const most = `${placeOf(one, best)} (${lens.readNumber(one.values[best])})`;
      return one.task === "understanding" ? `On the picture it looks most at ${most}.` : `Of all patches, ${most} looked most at the prompt.`;
    }

    // A patch map as part of a file, as it stands on the page; see heatmap.js.
    function pieceOf(look) {
      const { shown, size, host } = look.current();
      return {
        title: shown.title,
        width: size.width,
        height: size.height + 18,
        draw(pen, theme, x, y) {
          pen.image(x, y, size.width, size.height, host.querySelector("canvas"));
          pen.rect(x + 60, y + size.height + 8, 96, 9, shown.picture ? "#26262b" : theme.colour("--lens-chip")); // as below the map
          lens.patchLegend(shown).forEach((colour, i) => pen.rect(x + 60 + i * 3, y + size.height + 8, 3.2, 9, colour));
          const ends = [...host.querySelectorAll(".lens-patch-legend span")].map((span) => span.textContent);
          pen.text(x + 54, y + size.height + 17, ends[0], theme.soft, { anchor: "end" });
          pen.text(x + 164, y + size.height + 17, `${ends[1]}  ${shown.unit}`, theme.soft);
        },
        table: () => ({
          kind: "patches",
          head: ["map", "row", "column", "attention"],
          rows: shown.values.map((value, patch) => [shown.title, Math.floor(patch / shown.grid[1]) + 1, (patch % shown.grid[1]) + 1, Number.isFinite(value) ? value.toFixed(6) : ""]),
        }),
      };
    }

    return { pinnedHead };
  })(),
);
