// Lays attention over pictures, patch by patch. `lens.patchMap(host, { pick })` → { draw(shown), current() }; `shown` is
//   { picture (an image, or null for plain ground), grid: [rows, columns], values (one per patch, NaN: not known), low, high,
//     scale: "share" | "difference", out: Set (taken out), chosen: Set, smooth, made (patches that show; null: all),
//     title, unit, label, says(patch, value), rests (the patch to read while none is pointed at) }; patches count from 0.
// `lens.patchFiles` makes what stands on the page into SVG, PNG and CSV. Knows no capture.
Object.assign(
  window.lens,
  (() => {
    const WIDEST = 420, TALLEST = 460, LEAST = 24; // px
    const HEAT = [[255, 120, 50, 0], [255, 140, 55, 0.3], [255, 180, 80, 0.66], [255, 244, 190, 0.96]]; // lighter is more
    const VEIL = "rgba(10,10,14,0.42)"; // over the picture, so that what is lit stands out on any of them
    const SIDES = { minus: [74, 144, 226], plus: [240, 140, 60] };
    const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, sans-serif';

    // --- colours: [r, g, b, alpha] of a value ---

    function shareColour(share) {
      const at = Math.min(1, Math.max(0, share)) * (HEAT.length - 1), k = Math.min(Math.floor(at), HEAT.length - 2);
      return HEAT[k].map((from, c) => from + (HEAT[k + 1][c] - from) * (at - k));
    }
    function colourOf(value, { low, high, scale }) {
      if (!Number.isFinite(value)) return [0, 0, 0, 0];
      if (scale !== "difference") return shareColour(high > low ? (value - low) / (high - low) : 0);
      const share = high > 0 ? Math.min(1, Math.abs(value) / high) : 0;
      return [...SIDES[value < 0 ? "minus" : "plus"], 0.95 * share];
    }
    const css = ([r, g, b, a]) => `rgba(${Math.round(r)},${Math.round(g)},${Math.round(b)},${a.toFixed(3)})`;

    // --- one map ---

    function measure({ picture, grid: [rows, columns] }, room) {
      const [w, h] = picture ? [picture.naturalWidth, picture.naturalHeight] : [columns, rows];
      const width = Math.max(LEAST, Math.min(room, WIDEST, (TALLEST * w) / h));
      return { width, height: Math.max(LEAST, (width * h) / w), cell: width / columns, high: Math.max(LEAST, (width * h) / w) / rows };
    }
    // One picture element per patch.
    function texture(shown) {
      const [rows, columns] = shown.grid;
      const canvas = Object.assign(document.createElement("canvas"), { width: columns, height: rows });
      const context = canvas.getContext("2d"), pixels = context.createImageData(columns, rows);
      for (let patch = 0; patch < rows * columns; patch++) {
        const [r, g, b, a] = isShown(shown, patch) ? colourOf(shown.values[patch], shown) : [0, 0, 0, 0];
        pixels.data.set([r, g, b, a * 255], patch * 4);
      }
      context.putImageData(pixels, 0, 0);
      return canvas;
    }
    const isShown = ({ out, made }, patch) => !out.has(patch) && (made === null || patch < made);
    const isCoarse = (picture) => picture && Math.max(picture.naturalWidth, picture.naturalHeight) <= 128;

    function paint(context, shown, size, theme) {
      const { picture, grid: [rows, columns], out, chosen, made } = shown;
      const { width, height, cell, high } = size;
      context.clearRect(0, 0, width, height);
      context.fillStyle = picture ? theme.ground : theme.chip;
      context.fillRect(0, 0, width, height);
      if (picture) {
        context.imageSmoothingEnabled = !isCoarse(picture);
        context.drawImage(picture, 0, 0, width, height);
        context.fillStyle = VEIL;
        context.fillRect(0, 0, width, height);
      }
      context.imageSmoothingEnabled = shown.smooth;
      context.drawImage(texture(shown), 0, 0, width, height);
      const box = (patch) => [(patch % columns) * cell, Math.floor(patch / columns) * high, cell, high];
      if (made !== null) {
        context.fillStyle = theme.chip;
        for (let patch = made; patch < rows * columns; patch++) context.fillRect(...box(patch).map((v, i) => (i > 1 ? v + 0.5 : v)));
      }
      for (const patch of out) if (made === null || patch < made) hatch(context, box(patch));
      for (const patch of chosen) outline(context, box(patch));
    }
    function hatch(context, [x, y, w, h]) {
      Object.assign(context, { fillStyle: "rgba(20,20,24,0.55)", strokeStyle: "rgba(255,255,255,0.75)", lineWidth: 1 });
      context.fillRect(x, y, w, h);
      context.beginPath();
      context.moveTo(x + 1, y + h - 1);
      context.lineTo(x + w - 1, y + 1);
      context.moveTo(x + 1, y + 1);
      context.lineTo(x + w - 1, y + h - 1);
      context.stroke();
    }
    function outline(context, [x, y, w, h]) {
      Object.assign(context, { strokeStyle: "#111114", lineWidth: 4 });
      context.strokeRect(x + 1, y + 1, w - 2, h - 2);
      Object.assign(context, { strokeStyle: "#ffffff", lineWidth: 2 });
      context.strokeRect(x + 1, y + 1, w - 2, h - 2);
    }

    function themeOf(element) {
      const style = getComputedStyle(element);
      const colour = (name) => style.getPropertyValue(name).trim();
      return { ink: colour("--lens-ink"), soft: colour("--lens-soft"), card: colour("--lens-card"), chip: colour("--lens-chip"), ground: colour("--lens-picture") };
    }

    const number = (value) => {
      const text = Math.abs(value) >= 0.1 ? value.toFixed(2) : value.toPrecision(2);
      return String(Number(text)).replace("-", "−");
    };
    const legendOf = (shown) => [(shown.scale === "difference" ? "−" : "") + number(shown.scale === "difference" ? shown.high : shown.low), (shown.scale === "difference" ? "+" : "") + number(shown.high)];
    const legendColours = (shown) =>
      Array.from({ length: 32 }, (_, i) => css(colourOf(shown.scale === "difference" ? ((i - 15.5) / 15.5) * shown.high : shown.low + (i / 31) * (shown.high - shown.low), shown)));

    // --- on the page ---

    function patchMap(host, { pick = () => {} } = {}) {
      host.innerHTML =
        '<figure class="lens-patchmap"><figcaption></figcaption><div class="lens-patch-frame">' +
        '<canvas class="lens-patch-canvas" tabindex="0" role="application"></canvas><i class="lens-patch-cursor" hidden></i></div>' +
        '<div class="lens-patch-legend" aria-hidden="true"><span></span><i></i><span></span><em></em></div>' +
        '<p class="lens-patch-reads" aria-live="polite"></p></figure>';
      const find = (name) => host.querySelector(name);
      const canvas = find("canvas");
      let shown = null, size = null, cursor = null, room = 0, waiting = 0;

      // Painted when the view has said all that it shows now, since that decides how much room a map has.
      function draw(next) {
        shown = next;
        queueMicrotask(repaint);
      }
      function repaint() {
        if (!shown || !host.clientWidth) return;
        room = host.clientWidth;
        size = measure(shown, room);
        const ratio = window.devicePixelRatio || 1;
        Object.assign(canvas, { width: Math.round(size.width * ratio), height: Math.round(size.height * ratio) });
        Object.assign(canvas.style, { width: size.width + "px", height: size.height + "px" });
        const context = canvas.getContext("2d");
        context.scale(canvas.width / size.width, canvas.height / size.height);
        paint(context, shown, size, themeOf(host));
        host.lensSize = size; // tests find a patch by it
        canvas.setAttribute("aria-label", shown.label);
        find("figcaption").textContent = shown.title;
        const [low, high] = find(".lens-patch-legend").querySelectorAll("span");
        [low.textContent, high.textContent] = legendOf(shown);
        find(".lens-patch-legend i").style.background = `linear-gradient(90deg, ${legendColours(shown).join(",")}), ${shown.picture ? "#26262b" : "var(--lens-chip)"}`;
        find(".lens-patch-legend em").textContent = shown.unit;
        point(cursor);
      }
      function point(patch) {
        const [rows, columns] = shown ? shown.grid : [0, 0];
        cursor = patch !== null && patch < rows * columns ? patch : null;
        const frame = find(".lens-patch-cursor");
        frame.hidden = cursor === null || !size;
        if (!frame.hidden) {
          const at = { left: (cursor % columns) * size.cell, top: Math.floor(cursor / columns) * size.high, width: size.cell, height: size.high };
          for (const [name, value] of Object.entries(at)) frame.style[name] = value + "px";
        }
        const at = cursor ?? shown?.rests ?? null;
        find(".lens-patch-reads").textContent = at === null || !shown ? "" : shown.says(at, shown.values[at]);
      }
      function patchAt({ offsetX, offsetY }) {
        const [rows, columns] = shown.grid;
        const row = Math.floor(offsetY / size.high), column = Math.floor(offsetX / size.cell);
        return row >= 0 && row < rows && column >= 0 && column < columns ? row * columns + column : null;
      }
      const adds = (event) => event.shiftKey || event.ctrlKey || event.metaKey;
      canvas.addEventListener("pointermove", (event) => size && point(patchAt(event)));
      canvas.addEventListener("pointerleave", () => point(null));
      canvas.addEventListener("blur", () => point(null));
      canvas.addEventListener("click", (event) => {
        const patch = size && patchAt(event);
        if (patch !== null) pick(patch, adds(event));
      });
      canvas.addEventListener("keydown", (event) => {
        if (!shown) return;
        const [rows, columns] = shown.grid;
        const from = cursor ?? [...shown.chosen][0] ?? 0, row = Math.floor(from / columns), column = from % columns;
        const to = { ArrowLeft: [row, column - 1], ArrowRight: [row, column + 1], ArrowUp: [row - 1, column], ArrowDown: [row + 1, column], Home: [row, 0], End: [row, columns - 1] }[event.key];
        if (to) {
          event.preventDefault();
          point(Math.min(rows - 1, Math.max(0, to[0])) * columns + Math.min(columns - 1, Math.max(0, to[1])));
        } else if (event.key === "Enter" || event.key === " ") {
          event.preventDefault();
          pick(from, adds(event));
        } else if (event.key === "Escape") pick(null, false);
      });
      new ResizeObserver(() => {
        cancelAnimationFrame(waiting);
        waiting = requestAnimationFrame(() => host.clientWidth !== room && repaint());
      }).observe(host);
      lens.onTheme(repaint);
      return { draw, current: () => ({ shown, size, host }) };
    }

    // --- as files: { title, words (a sentence), chips: [{ text, value, chosen }], maps, width } ---

    const quoted = (text) => String(text).replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);
    const fine = (value) => Math.round(value * 100) / 100;
    const text = (x, y, words, fill, size = 11, weight = 400) =>
      `<text x="${fine(x)}" y="${fine(y)}" fill="${fill}" font-size="${size}" font-weight="${weight}">${quoted(words)}</text>`;
    const rect = (x, y, w, h, fill, more = "") => `<rect x="${fine(x)}" y="${fine(y)}" width="${fine(w)}" height="${fine(h)}" fill="${fill}"${more}/>`;

    function svgMap({ shown, size }, x, y, theme) {
      const { picture, grid: [rows, columns], out, chosen, made, values } = shown;
      const { width, height, cell, high } = size;
      const box = (patch) => [x + (patch % columns) * cell, y + Math.floor(patch / columns) * high, cell, high];
      const parts = [rect(x, y, width, height, picture ? theme.ground : theme.chip)];
      const image = (href, coarse) =>
        `<image x="${fine(x)}" y="${fine(y)}" width="${fine(width)}" height="${fine(height)}" preserveAspectRatio="none" href="${href}"${coarse ? ' style="image-rendering:pixelated"' : ""}/>`;
      if (picture) parts.push(image(picture.src, isCoarse(picture)), rect(x, y, width, height, VEIL));
      if (shown.smooth) parts.push(image(texture(shown).toDataURL(), false));
      for (let patch = 0; patch < rows * columns; patch++) {
        if (made !== null && patch >= made) parts.push(rect(...box(patch), theme.chip));
        else if (out.has(patch)) parts.push(rect(...box(patch), "rgba(20,20,24,0.55)", ' stroke="#fff" stroke-dasharray="3 2"'));
        else if (!shown.smooth && Number.isFinite(values[patch])) parts.push(rect(...box(patch), css(colourOf(values[patch], shown))));
      }
      for (const patch of chosen) {
        const [left, top, w, h] = box(patch);
        parts.push(rect(left + 1, top + 1, w - 2, h - 2, "none", ' stroke="#111114" stroke-width="4"'), rect(left + 1, top + 1, w - 2, h - 2, "none", ' stroke="#fff" stroke-width="2"'));
      }
      return parts;
    }

    function svgWords(chips, x, y, width, theme) {
      const parts = [];
      let left = x, top = y;
      for (const { text: words, value, chosen } of chips) {
        const label = Number.isFinite(value) ? `${words} ${number(value)}` : words;
        const wide = 14 + label.length * 6.6;
        if (left + wide > x + width && left > x) [left, top] = [x, top + 26];
        parts.push(rect(left, top, wide, 21, chosen ? theme.ink : theme.chip, ' rx="5"'), text(left + 7, top + 15, label, chosen ? theme.card : theme.ink, 12));
        left += wide + 5;
      }
      return { parts, height: chips.length ? top - y + 34 : 0 };
    }

    function toSvg({ title, words, chips, maps, width: wanted }) {
      const theme = themeOf(maps[0].current().host), shots = maps.map((one) => one.current());
      const beside = shots.reduce((sum, { size }) => sum + size.width + 24, -24);
      const width = Math.max(wanted, beside + 44);
      const lines = lens.wrap(words, (width - 44) / 6.4);
      const parts = [text(22, 32, title, theme.ink, 15, 600), ...lines.map((line, i) => text(22, 54 + 16 * i, line, theme.soft, 12))];
      let y = 62 + 16 * lines.length, x = 22;
      const listed = svgWords(chips, 22, y, width - 44, theme);
      parts.push(...listed.parts);
      y += listed.height;
      for (const shot of shots) {
        parts.push(text(x, y + 12, shot.shown.title, theme.ink, 12.5, 550), ...svgMap(shot, x, y + 22, theme));
        const below = y + 22 + shot.size.height + 12, [low, high] = legendOf(shot.shown);
        parts.push(text(x, below + 8, low, theme.soft), rect(x + 40, below, 96, 9, "#26262b"));
        legendColours(shot.shown).forEach((colour, i) => parts.push(rect(x + 40 + i * 3, below, 3.2, 9, colour)));
        parts.push(text(x + 142, below + 8, `${high}  ${shot.shown.unit}`, theme.soft));
        x += shot.size.width + 24;
      }
      const height = y + 22 + Math.max(...shots.map(({ size }) => size.height)) + 44;
      return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family='${FONT}'>${rect(0, 0, width, height, theme.card)}${parts.join("")}</svg>`;
    }

    async function toPng(what) {
      const drawn = new Image();
      drawn.src = URL.createObjectURL(new Blob([toSvg(what)], { type: "image/svg+xml" }));
      await drawn.decode();
      const canvas = Object.assign(document.createElement("canvas"), { width: drawn.width * 2, height: drawn.height * 2 });
      canvas.getContext("2d").drawImage(drawn, 0, 0, canvas.width, canvas.height);
      URL.revokeObjectURL(drawn.src);
      return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
    }

    // A row for each patch of each map and for each word that has a value.
    function toCsv({ chips, maps }) {
      const cell = (value) => (/[",\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : value);
      const rows = [["map", "kind", "row", "column", "word", "attention", "chosen", "taken_out"]];
      for (const one of maps) {
        const { shown } = one.current(), columns = shown.grid[1];
        shown.values.forEach((value, patch) => {
          if (shown.made !== null && patch >= shown.made) return;
          const at = [Math.floor(patch / columns) + 1, (patch % columns) + 1];
          const known = Number.isFinite(value) ? value.toFixed(6) : "";
          rows.push([shown.title, "patch", ...at, "", known, Number(shown.chosen.has(patch)), Number(shown.out.has(patch))]);
        });
      }
      for (const { text: words, value, chosen, map = "" } of chips) {
        if (Number.isFinite(value) || chosen) rows.push([map, "word", "", "", words, Number.isFinite(value) ? value.toFixed(6) : "", Number(chosen), 0]);
      }
      return rows.map((row) => row.map(cell).join(",") + "\n").join("");
    }

    // Buttons that save what `find` gives: what toSvg takes, and a `stem` for the file's name.
    function patchActions(holder, find) {
      const what = () => ({ width: holder.closest(".lens-card").clientWidth, ...find() });
      const save = (ending, blob) => lens.download(`${find().stem}.${ending}`, blob);
      holder.replaceChildren(
        lens.button("CSV", () => save("csv", new Blob([toCsv(what())], { type: "text/csv" }))),
        lens.button("PNG", async () => save("png", await toPng(what()))),
        lens.button("SVG", () => save("svg", new Blob([toSvg(what())], { type: "image/svg+xml" }))),
        lens.copyButton(() => lens.placed("explore")),
      );
    }

    return { patchMap, patchActions, patchLegend: legendColours, readNumber: number };
  })(),
);
