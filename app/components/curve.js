// Draws lines over steps: `lens.stepCurve(host, { move })` → { draw(shown), point(step), piece(width) }. `shown` is
//   { title, lines: [{ name, values, colour (a variable of the style), width, dash }], high (the lower end is 0), unit,
//     columnTitle, label, says(step), empty, after (a line after that step), columnPlaces(step) }; steps count from 0.
// With axes and pens as heatmap.js has them, so that a curve stands in one file with maps.
Object.assign(
  window.lens,
  (() => {
    const { canvasPen, fit, themeOf, tickStep, isTick, left: LEFT } = lens.drawing;
    const [HIGH, TOP, BOTTOM, LEGEND, DOTS] = [150, 6, 36, 22, 60]; // px, but the last: steps up to which each has a dot

    const stepsOf = ({ lines }) => lines[0].values.length;
    const measure = (shown, width) => ({ width, height: TOP + HIGH + BOTTOM + LEGEND, cell: (width - LEFT) / Math.max(1, stepsOf(shown)) });

    // Runs of steps that have a value.
    function runsOf(values, place) {
      const runs = [[]];
      values.forEach((value, step) => (Number.isFinite(value) ? runs.at(-1).push(place(step, value)) : runs.at(-1).length && runs.push([])));
      return runs.filter((run) => run.length);
    }

    function drawAxes(pen, shown, size, theme, x, y) {
      for (const share of [0, 0.5, 1]) {
        const at = y + TOP + HIGH * (1 - share);
        pen.rect(x + LEFT, at, size.width - LEFT, 1, theme.line);
        pen.text(x + LEFT - 6, at + 4, Number((shown.high * share).toFixed(3)), theme.soft, { anchor: "end" });
      }
      const step = tickStep(size.cell, 32);
      for (let i = 0; i < stepsOf(shown); i++) {
        if (isTick(i, step)) pen.text(x + LEFT + (i + 0.5) * size.cell, y + TOP + HIGH + 15, i + 1, theme.soft, { anchor: "middle" });
      }
      pen.text(x + (LEFT + size.width) / 2, y + TOP + HIGH + BOTTOM - 4, shown.columnTitle, theme.soft, { anchor: "middle" });
      pen.text(x + 11, y + TOP + HIGH / 2, "share of attention", theme.soft, { anchor: "middle", turn: -90 });
      if (shown.after !== undefined) pen.rect(x + LEFT + (shown.after + 1) * size.cell - 0.5, y + TOP, 1, HIGH, theme.soft);
    }

    function drawAll(pen, shown, size, theme, x, y) {
      drawAxes(pen, shown, size, theme, x, y);
      const place = (step, value) => [x + LEFT + (step + 0.5) * size.cell, y + TOP + HIGH * (1 - Math.min(1, value / shown.high))];
      let key = x + LEFT;
      for (const { name, values, colour, width, dash } of shown.lines) {
        const stroke = theme.colour(colour);
        for (const run of runsOf(values, place)) {
          if (run.length > 1) pen.line(run, stroke, width, dash);
          if (values.length <= DOTS || run.length === 1) for (const [px, py] of run) pen.rect(px - width, py - width, 2 * width, 2 * width, stroke);
        }
        const below = y + TOP + HIGH + BOTTOM + LEGEND - 8;
        pen.line([[key, below], [key + 22, below]], stroke, width, dash);
        pen.text(key + 28, below + 4, name, theme.soft);
        key += 44 + 6.2 * name.length;
      }
    }

    function stepCurve(host, { move = () => {} } = {}) {
      host.innerHTML =
        '<figure class="lens-map"><figcaption></figcaption><div class="lens-map-frame lens-curve-frame">' +
        '<canvas class="lens-map-canvas" role="application" aria-roledescription="curve" tabindex="0"></canvas>' +
        '<i class="lens-map-cursor" hidden></i></div><p class="lens-map-reads" aria-live="polite"></p></figure>';
      const find = (name) => host.querySelector(name), canvas = find("canvas");
      let shown = null, size = null, at = null, waiting = 0;

      function draw(next) {
        shown = next;
        if (at !== null && at >= stepsOf(shown)) at = null;
        queueMicrotask(paint); // when the view has said all that it shows now, since that decides how much room a curve has
      }
      function paint() {
        if (!shown || !host.clientWidth) return;
        size = measure(shown, host.clientWidth);
        host.lensSize = { ...size, left: LEFT, top: TOP, high: HIGH };
        find("figcaption").textContent = shown.title;
        canvas.setAttribute("aria-label", shown.label || shown.title);
        const grid = devicePixelRatio || 1;
        drawAll(canvasPen(fit(canvas, size.width, size.height, grid)), shown, size, themeOf(host), 0, 0);
        point(at);
        host.dataset.painted = String(1 + Number(host.dataset.painted || 0)); // tests wait for this
      }
      function point(step) {
        at = step;
        if (!shown || !size) return;
        const frame = find(".lens-map-cursor");
        frame.hidden = at === null;
        if (at !== null) Object.assign(frame.style, { left: LEFT + at * size.cell + "px", top: TOP + "px", width: Math.max(1, size.cell) + "px", height: HIGH + "px" });
        find(".lens-map-reads").textContent = at === null ? shown.empty || "" : shown.says(at);
      }
      function moveTo(step) {
        point(step);
        move(step);
      }
      const stepAt = ({ offsetX }) => {
        const step = Math.floor((offsetX - LEFT) / size.cell);
        return step >= 0 && step < stepsOf(shown) ? step : null;
      };
      canvas.addEventListener("pointermove", (event) => size && moveTo(stepAt(event)));
      canvas.addEventListener("pointerleave", () => moveTo(null));
      canvas.addEventListener("blur", () => moveTo(null));
      canvas.addEventListener("keydown", (event) => {
        if (!shown) return;
        const last = stepsOf(shown) - 1, from = at ?? -1;
        const to = { ArrowLeft: from - 1, ArrowRight: from + 1, Home: 0, End: last }[event.key];
        if (to === undefined) return;
        event.preventDefault();
        moveTo(Math.min(last, Math.max(0, to)));
      });
      new ResizeObserver(() => {
        cancelAnimationFrame(waiting);
        waiting = requestAnimationFrame(() => size?.width !== host.clientWidth && paint());
      }).observe(host);
      lens.onTheme(paint);
      return { draw, point, piece: (width) => pieceOf(shown, width), current: () => ({ shown, host }) };
    }

    // A curve as part of a file; see heatmap.js.
    function pieceOf(shown, width) {
      const size = measure(shown, Math.min(width, 640)), { columnPlaces = (step) => step + 1 } = shown;
      return {
        title: shown.title,
        ...size,
        draw: (pen, theme, x, y) => drawAll(pen, shown, size, theme, x, y),
        table: () => ({
          kind: "curve",
          head: ["curve", "line", shown.columnTitle, "name", shown.unit],
          rows: shown.lines.flatMap(({ name, values }) =>
            [...values].map((value, step) => [shown.title, name, step + 1, columnPlaces(step), Number.isFinite(value) ? value.toFixed(5) : ""]),
          ),
        }),
      };
    }

    return { stepCurve };
  })(),
);
