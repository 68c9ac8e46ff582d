// Draws dense maps: crisp cells between fixed limits, a legend, a cursor for pointer and keyboard, and the same as a file.
// `lens.heatmap(host, { pick, move })` → { draw(map, shown), pin(cell), point(cell), … }; `pick` hears of a click or Enter,
// `move` of the cell that is pointed at, or null. A map is what app/closer/maps.py encodes, or
// { rows, columns, low, high, values }; `shown` says how to read it, see `draw`. Cells are [row, column], from 0.
Object.assign(
  window.lens,
  (() => {
    const STEPS = 65534, MISSING = 65535; // as in app/closer/maps.py
    const SCALES = {
      generation: ["--lens-map-none", "--lens-gen", "--lens-gen-most"],
      understanding: ["--lens-map-none", "--lens-und", "--lens-und-most"],
      difference: ["--lens-minus", "--lens-zero", "--lens-plus"],
    };
    const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, sans-serif';
    const [LEFT, BOTTOM, NAMED_BOTTOM, APART, NAMED] = [46, 36, 74, 7, 15]; // px; from APART on, cells stand apart
    const TICKS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000];

    // --- numbers ---

    function unpack(map) {
      const { rows, columns, low, high } = map;
      if (map.codes) return map;
      const codes = map.values
        ? Uint16Array.from(map.values, (v) => (Number.isFinite(v) ? Math.round(clip((v - low) / (high - low)) * STEPS) : MISSING))
        : new Uint16Array(bytesOf(map.base64).buffer);
      return { rows, columns, low, high, codes };
    }
    // A call for each of a million characters took a tenth of a second.
    function bytesOf(base64) {
      if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64);
      const text = atob(base64), bytes = new Uint8Array(text.length);
      for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
      return bytes;
    }
    const clip = (share) => Math.min(1, Math.max(0, share));
    function valueAt({ codes, columns, low, high }, row, column) {
      const code = codes[row * columns + column];
      return code === MISSING ? NaN : low + (code / STEPS) * (high - low);
    }

    // --- colours ---

    const rgb = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
    function themeOf(element) {
      const style = getComputedStyle(element);
      const colour = (name) => style.getPropertyValue(name).trim();
      return { colour, ink: colour("--lens-ink"), soft: colour("--lens-soft"), line: colour("--lens-line"), card: colour("--lens-card") };
    }
    // 256 colours of a scale, each [r, g, b].
    function ramp(theme, scale) {
      const stops = SCALES[scale].map((name) => rgb(theme.colour(name)));
      return Array.from({ length: 256 }, (_, i) => {
        const at = (i / 255) * (stops.length - 1), k = Math.min(Math.floor(at), stops.length - 2);
        return stops[k].map((from, c) => Math.round(from + (stops[k + 1][c] - from) * (at - k)));
      });
    }
    const css = ([r, g, b]) => `rgb(${r},${g},${b})`;

    // --- pens: the same strokes on a canvas and in an SVG ---

    function canvasPen(context) {
      return {
        rect: (x, y, w, h, fill) => Object.assign(context, { fillStyle: fill }).fillRect(x, y, w, h),
        outline: (x, y, w, h, stroke, width) => Object.assign(context, { strokeStyle: stroke, lineWidth: width }).strokeRect(x, y, w, h),
        image: (x, y, w, h, picture) => {
          context.imageSmoothingEnabled = false;
          context.drawImage(picture, x, y, w, h);
        },
        text: (x, y, words, fill, { anchor = "start", size = 11, weight = 400, turn = 0 } = {}) => {
          context.save();
          context.translate(x, y);
          context.rotate((turn * Math.PI) / 180);
          Object.assign(context, { fillStyle: fill, font: `${weight} ${size}px ${FONT}`, textAlign: anchor === "middle" ? "center" : anchor });
          context.fillText(words, 0, 0);
          context.restore();
        },
        line: (points, stroke, width, dash = []) => {
          context.save();
          context.setLineDash(dash);
          Object.assign(context, { strokeStyle: stroke, lineWidth: width, lineJoin: "round" });
          context.beginPath();
          points.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
          context.stroke();
          context.restore();
        },
      };
    }
    const quoted = (text) => String(text).replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);
    function svgPen(parts) {
      return {
        rect: (x, y, w, h, fill) => parts.push(`<rect x="${fine(x)}" y="${fine(y)}" width="${fine(w)}" height="${fine(h)}" fill="${fill}"/>`),
        outline: (x, y, w, h, stroke, width) =>
          parts.push(`<rect x="${fine(x)}" y="${fine(y)}" width="${fine(w)}" height="${fine(h)}" fill="none" stroke="${stroke}" stroke-width="${width}"/>`),
        image: (x, y, w, h, picture) =>
          parts.push(`<image x="${fine(x)}" y="${fine(y)}" width="${fine(w)}" height="${fine(h)}" preserveAspectRatio="none" style="image-rendering:pixelated" href="${picture.toDataURL()}"/>`),
        text: (x, y, words, fill, { anchor = "start", size = 11, weight = 400, turn = 0 } = {}) =>
          parts.push(`<text transform="translate(${fine(x)} ${fine(y)}) rotate(${turn})" fill="${fill}" font-size="${size}" font-weight="${weight}" text-anchor="${anchor}">${quoted(words)}</text>`),
        line: (points, stroke, width, dash = []) =>
          parts.push(`<polyline points="${points.map(([x, y]) => `${fine(x)},${fine(y)}`).join(" ")}" fill="none" stroke="${stroke}" stroke-width="${width}" stroke-dasharray="${dash.join(" ")}"/>`),
      };
    }
    const fine = (number) => Math.round(number * 100) / 100;

    // --- one map ---

    function measure(map, shown, width) {
      const named = Boolean(shown.columnNames) && (width - LEFT) / map.columns >= NAMED;
      const most = shown.widest || 64;
      const cell = Math.min(most, Math.max(1, (width - LEFT) / map.columns));
      const high = Math.min(26, Math.max(3, Math.round((shown.height || 260) / map.rows)));
      const bottom = named ? NAMED_BOTTOM : BOTTOM;
      return { room: width, named, cell, high, width: LEFT + cell * map.columns + 1, height: high * map.rows + bottom };
    }

    // One picture element per cell.
    function texture(map, colours) {
      const picture = Object.assign(document.createElement("canvas"), { width: map.columns, height: map.rows });
      const context = picture.getContext("2d");
      const pixels = context.createImageData(map.columns, map.rows);
      for (let i = 0, at = 0; i < map.codes.length; i++, at += 4) {
        if (map.codes[i] === MISSING) continue; // stays clear
        const colour = colours[((map.codes[i] * 255) / STEPS + 0.5) | 0];
        for (let c = 0; c < 3; c++) pixels.data[at + c] = colour[c];
        pixels.data[at + 3] = 255;
      }
      context.putImageData(pixels, 0, 0);
      return picture;
    }

    function drawCells(pen, map, size, colours, x, y, grid) {
      const snap = (value) => Math.round(value * grid) / grid; // to whole pixels, so that cells are crisp
      if (Math.min(size.cell, size.high) < APART) {
        pen.image(x + LEFT, y, size.cell * map.columns, size.high * map.rows, texture(map, colours));
        return;
      }
      for (let row = 0; row < map.rows; row++) {
        for (let column = 0; column < map.columns; column++) {
          const code = map.codes[row * map.columns + column];
          if (code === MISSING) continue;
          const from = snap(x + LEFT + column * size.cell), to = snap(x + LEFT + (column + 1) * size.cell);
          pen.rect(from, snap(y + row * size.high), to - from - 1, size.high - 1, css(colours[(code * 255 / STEPS + 0.5) | 0]));
        }
      }
    }

    const tickStep = (cell, room) => TICKS.find((step) => step * cell >= room) || TICKS.at(-1);
    const isTick = (index, step) => index === 0 || ((index + 1) % step === 0 && !(step === 2 && index === 1)); // 1 and 2 would touch

    function drawAxes(pen, map, size, shown, theme, x, y) {
      const { rowLabel = (i) => i + 1, columnLabel = (j) => j + 1, columnNames, rowTitle, columnTitle } = shown;
      const below = y + size.high * map.rows, rows = tickStep(size.high, 15), columns = tickStep(size.cell, 32);
      for (let row = 0; row < map.rows; row++) {
        if (isTick(row, rows)) pen.text(x + LEFT - 6, y + (row + 0.5) * size.high + 4, rowLabel(row), theme.soft, { anchor: "end" });
      }
      for (let column = 0; column < map.columns; column++) {
        const middle = x + LEFT + (column + 0.5) * size.cell;
        if (size.named) pen.text(middle + 4, below + 12, short(columnNames[column]), theme.soft, { anchor: "end", turn: -50 });
        else if (isTick(column, columns)) pen.text(middle, below + 15, columnLabel(column), theme.soft, { anchor: "middle" });
      }
      pen.text(x + LEFT + (size.cell * map.columns) / 2, y + size.height - 4, columnTitle, theme.soft, { anchor: "middle" });
      pen.text(x + 11, y + (size.high * map.rows) / 2, rowTitle, theme.soft, { anchor: "middle", turn: -90 });
      if (shown.after !== undefined) pen.rect(x + LEFT + (shown.after + 1) * size.cell - 1, y, 1, size.high * map.rows + 4, theme.ink);
    }
    const short = (words) => (words.length > 10 ? words.slice(0, 9) + "…" : words);

    function drawMap(pen, map, size, shown, theme, x, y, grid) {
      drawCells(pen, map, size, ramp(theme, shown.scale), x, y, grid);
      drawAxes(pen, map, size, shown, theme, x, y);
    }

    const format = (value, shown) => (shown.scale === "difference" && value > 0 ? "+" : "") + fine(value).toString().replace("-", "−");
    function drawLegend(pen, map, shown, theme, x, y) {
      ramp(theme, shown.scale).forEach((colour, i) => pen.rect(x + 34 + i * 0.5, y, 0.75, 9, css(colour)));
      pen.text(x + 28, y + 9, format(map.low, shown), theme.soft, { anchor: "end" });
      pen.text(x + 168, y + 9, `${format(map.high, shown)}  ${shown.unit}`, theme.soft);
    }

    // --- on the page ---

    // A canvas of this size, empty, as fine as the screen.
    function fit(target, width, height, grid) {
      const [w, h] = [Math.round(width * grid), Math.round(height * grid)];
      if (target.width !== w || target.height !== h) Object.assign(target, { width: w, height: h });
      Object.assign(target.style, { width: width + "px", height: height + "px" });
      const context = target.getContext("2d");
      context.setTransform(grid, 0, 0, grid, 0, 0);
      context.clearRect(0, 0, width, height);
      return context;
    }

    function heatmap(host, { pick = () => {}, move = () => {} } = {}) {
      host.innerHTML =
        '<figure class="lens-map"><figcaption></figcaption><div class="lens-map-scroll"><div class="lens-map-frame">' +
        '<canvas class="lens-map-canvas" role="application" aria-roledescription="map" tabindex="0"></canvas>' +
        '<i class="lens-map-pin" hidden></i><i class="lens-map-cursor" hidden></i></div></div>' +
        '<canvas class="lens-map-legend" aria-hidden="true"></canvas>' +
        '<p class="lens-map-reads" aria-live="polite"></p></figure>';
      const find = (name) => host.querySelector(name);
      const canvas = find(".lens-map-canvas"), legend = find(".lens-map-legend");
      let map = null, shown = null, size = null, cursor = null, pinned = null, waiting = 0;

      // `shown`: title, scale (generation, understanding, difference), unit, rowTitle, columnTitle, says(row, column, value);
      // and where wanted label, rowLabel(row), columnLabel(column), columnNames (drawn where they fit), columnPlaces(column)
      // (their names in a file alone), height and widest of a cell in px, empty (the words where no cell is pointed at),
      // after (a line after that column).
      function draw(next, how) {
        map = unpack(next);
        shown = how;
        if (cursor && (cursor[0] >= map.rows || cursor[1] >= map.columns)) cursor = null;
        queueMicrotask(paint); // when the view has said all that it shows now, since that decides how much room a map has
        read();
      }

      function paint() {
        if (!map || !host.clientWidth) return; // hidden: the observer below draws when it comes to the front
        const started = performance.now();
        size = measure(map, shown, host.clientWidth);
        host.lensSize = { ...size, left: LEFT };
        const theme = themeOf(host);
        find("figcaption").textContent = shown.title;
        canvas.setAttribute("aria-label", shown.label || shown.title);
        const grid = devicePixelRatio || 1;
        drawMap(canvasPen(fit(canvas, size.width, size.height, grid)), map, size, shown, theme, 0, 0, grid);
        drawLegend(canvasPen(fit(legend, 420, 12, grid)), map, shown, theme, 0, 1);
        place(find(".lens-map-pin"), pinned);
        place(find(".lens-map-cursor"), cursor);
        host.dataset.painted = String(1 + Number(host.dataset.painted || 0)); // tests wait for this
        host.dataset.milliseconds = (performance.now() - started).toFixed(1);
      }

      function place(frame, cell) {
        frame.hidden = !cell || !size || cell[0] >= map.rows || cell[1] >= map.columns;
        if (frame.hidden) return;
        const [row, column] = cell;
        const style = { left: LEFT + column * size.cell, top: row * size.high, width: Math.max(size.cell - 1, 2), height: Math.max(size.high - 1, 2) };
        for (const [name, value] of Object.entries(style)) frame.style[name] = value + "px";
      }

      function read() {
        const at = cursor || pinned;
        const words = at && at[0] < map.rows && at[1] < map.columns ? shown.says(...at, valueAt(map, ...at)) : shown.empty || "";
        find(".lens-map-reads").textContent = words;
      }

      function point(cell) {
        cursor = cell;
        if (!map) return;
        place(find(".lens-map-cursor"), cursor);
        read();
      }
      function moveTo(cell) {
        point(cell);
        move(cell);
      }

      function cellAt(event) {
        const column = Math.floor((event.offsetX - LEFT) / size.cell), row = Math.floor(event.offsetY / size.high);
        return column >= 0 && column < map.columns && row >= 0 && row < map.rows ? [row, column] : null;
      }

      canvas.addEventListener("pointermove", (event) => size && moveTo(cellAt(event)));
      canvas.addEventListener("pointerleave", () => moveTo(null));
      canvas.addEventListener("click", (event) => {
        const cell = size && cellAt(event);
        if (cell) pick(cell);
      });
      canvas.addEventListener("blur", () => moveTo(null));
      canvas.addEventListener("keydown", (event) => {
        const [row, column] = cursor || pinned || [0, 0];
        const to = {
          ArrowLeft: [row, column - 1], ArrowRight: [row, column + 1], ArrowUp: [row - 1, column], ArrowDown: [row + 1, column],
          Home: [row, 0], End: [row, map ? map.columns - 1 : 0],
        }[event.key];
        if (to && map) {
          event.preventDefault();
          const [r, c] = cursor || pinned ? to : [0, 0];
          moveTo([Math.min(Math.max(r, 0), map.rows - 1), Math.min(Math.max(c, 0), map.columns - 1)]);
          find(".lens-map-cursor").scrollIntoView({ block: "nearest", inline: "nearest" });
        } else if ((event.key === "Enter" || event.key === " ") && (cursor || pinned)) {
          event.preventDefault();
          pick(cursor || pinned);
        }
      });
      new ResizeObserver(() => {
        cancelAnimationFrame(waiting);
        waiting = requestAnimationFrame(() => size?.room !== host.clientWidth && paint());
      }).observe(host);
      lens.onTheme(paint);

      return {
        draw,
        point,
        pin(cell) {
          pinned = cell;
          place(find(".lens-map-pin"), pinned);
          if (map) read();
        },
        value: (row, column) => valueAt(map, row, column),
        current: () => ({ map, shown, pinned, host }),
        piece: (width) => pieceOf(map, shown, pinned, width),
      };
    }

    // A map as part of a file; see `mapActions`.
    function pieceOf(map, shown, pinned, width) {
      const size = measure(map, shown, width);
      return {
        title: shown.title,
        width: size.width,
        height: size.height + 18,
        draw(pen, theme, x, y) {
          drawMap(pen, map, size, shown, theme, x, y, 2);
          if (pinned && pinned[0] < map.rows && pinned[1] < map.columns) {
            pen.outline(x + LEFT + pinned[1] * size.cell - 1, y + pinned[0] * size.high - 1, size.cell + 1, size.high + 1, theme.ink, 2);
          }
          drawLegend(pen, map, shown, theme, x, y + size.height + 8);
        },
        table: () => tableOf(map, shown),
      };
    }

    // Every cell as a row, with the line that names its columns.
    function tableOf(map, shown) {
      const { rowLabel = (i) => i + 1, columnLabel = (j) => j + 1, columnNames, columnPlaces = (j) => columnNames[j] } = shown;
      const isNamed = Boolean(shown.columnNames || shown.columnPlaces);
      const rows = Array.from(map.codes, (_, at) => {
        const row = Math.floor(at / map.columns), column = at % map.columns, value = valueAt(map, row, column);
        const named = isNamed ? [columnPlaces(column)] : [];
        return [shown.title, rowLabel(row), columnLabel(column), ...named, Number.isFinite(value) ? value.toFixed(5) : ""];
      });
      return { kind: "map", head: ["map", shown.rowTitle, shown.columnTitle, ...(isNamed ? ["name"] : []), shown.unit], rows };
    }

    // --- as files: what stands on the page, one piece below the other ---

    function compose(pen, { title, words, maps }, width, theme) {
      const pieces = maps.map((one) => one.piece(width - 44));
      const lines = lens.wrap(words || "", (width - 44) / 6.4);
      const whole = Math.max(width, ...pieces.map((piece) => piece.width + 44));
      const height = 52 + 16 * lines.length + pieces.reduce((sum, piece) => sum + piece.height + 44, 0);
      if (!pen) return { width: whole, height };
      pen.rect(0, 0, whole, height, theme.card);
      pen.text(22, 32, title, theme.ink, { size: 15, weight: 600 });
      lines.forEach((line, i) => pen.text(22, 52 + 16 * i, line, theme.soft, { size: 12 }));
      let y = 52 + 16 * lines.length;
      for (const piece of pieces) {
        pen.text(22, y + 12, piece.title, theme.ink, { size: 12.5, weight: 550 });
        piece.draw(pen, theme, 22, y + 22);
        y += piece.height + 44;
      }
      return { width: whole, height };
    }

    async function toPng(what) {
      const { width, height } = compose(null, what, what.width);
      const canvas = new OffscreenCanvas(width * 2, height * 2);
      const context = canvas.getContext("2d");
      context.scale(2, 2);
      compose(canvasPen(context), what, what.width, what.theme);
      return canvas.convertToBlob({ type: "image/png" });
    }

    function toSvg(what) {
      const parts = [];
      const { width, height } = compose(svgPen(parts), what, what.width, what.theme);
      return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family='${FONT}'>${parts.join("")}</svg>`;
    }

    // The tables of all pieces; what comes after one of another kind has a line of names of its own.
    function toCsv({ maps }) {
      const cell = (value) => (/[",\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : value);
      const rows = [];
      let last = "";
      for (const { kind, head, rows: found } of maps.map((one) => one.piece(600).table())) {
        if (kind !== last) rows.push(...(last ? [[]] : []), head);
        rows.push(...found);
        last = kind;
      }
      return rows.map((row) => row.map(cell).join(",") + "\n").join("");
    }

    // Buttons that save what `find` gives: { title, words, stem, maps }. A map, or anything else that can stand in a file,
    // has piece(width) → { title, width, height, draw(pen, theme, x, y), table() → { kind, head, rows } }.
    // `link` gives the query of the address to copy.
    function mapActions(holder, find, link = () => lens.placed("explore")) {
      const what = () => ({ width: holder.closest(".lens-card").clientWidth, theme: themeOf(holder), ...find() });
      const save = (ending, blob) => lens.download(`${find().stem}.${ending}`, blob);
      holder.replaceChildren(
        lens.button("CSV", () => save("csv", new Blob([toCsv(what())], { type: "text/csv" }))),
        lens.button("PNG", async () => save("png", await toPng(what()))),
        lens.button("SVG", () => save("svg", new Blob([toSvg(what())], { type: "image/svg+xml" }))),
        lens.copyButton(link),
      );
    }

    return { heatmap, mapActions, bytesOf, unpackMap: unpack, mapValue: valueAt, drawing: { canvasPen, fit, themeOf, tickStep, isTick, left: LEFT } };
  })(),
);
