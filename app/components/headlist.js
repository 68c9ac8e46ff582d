// Heads as a list: `lens.headList(host, { pick })` → { draw(shown) }; `shown` is { heads: [{ layer, head, value, more }] in
// order, high (the end of the bars), scale (as in heatmap.js), pinned: [layer, head] or null, label, whole (how many there
// are in all) }. Layers and heads count from 0. `lens.findHeads(text)` reads what a person searches for.
Object.assign(
  window.lens,
  (() => {
    const LISTED = 12;
    const EXPECTED = "Expected a search such as 3.2, layer 3, layers 4-8, head 2 or > 0.4";
    const WORDS = /(\d+)\.(\d+)|layers?\s*(\d+)(?:\s*[-–]\s*(\d+))?|heads?\s*(\d+)(?:\s*[-–]\s*(\d+))?|([<>])\s*(-?\d*\.?\d+)/gi;

    // → a test of { layer, head, value }: all that was asked for must hold. Throws a sentence for what it cannot read.
    function findHeads(text) {
      const tests = [];
      const rest = text.replace(WORDS, (_, layer, head, from, to, first, last, sign, limit) => {
        if (layer) tests.push((one) => one.layer === layer - 1 && one.head === head - 1);
        else if (from) tests.push((one) => one.layer >= from - 1 && one.layer <= (to || from) - 1);
        else if (first) tests.push((one) => one.head >= first - 1 && one.head <= (last || first) - 1);
        else tests.push((one) => (sign === "<" ? one.value < Number(limit) : one.value > Number(limit)));
        return "";
      });
      const left = rest.replace(/[\s,;]|and/g, "");
      if (left) throw new Error(`${EXPECTED}, got “${left.slice(0, 12)}”.`);
      return (one) => tests.every((test) => test(one));
    }

    function headList(host, { pick }) {
      host.innerHTML = '<ol class="lens-headlist"></ol><p class="lens-headlist-rest"></p>';
      const [list, rest] = host.children;

      function draw({ heads, high, scale, pinned, label, whole }) {
        list.setAttribute("aria-label", label);
        list.dataset.scale = scale;
        const had = document.activeElement?.closest?.(".lens-headlist") === list && document.activeElement.dataset.head;
        list.replaceChildren(...heads.slice(0, LISTED).map((one) => itemOf(one, high, scale, pinned)));
        rest.textContent = heads.length ? (heads.length > LISTED ? `The first ${LISTED} of ${heads.length.toLocaleString("en")} heads.` : "") : `None of ${whole.toLocaleString("en")} heads is like that.`;
        if (had) list.querySelector(`[data-head="${had}"]`)?.focus({ preventScroll: true });
      }
      function itemOf({ layer, head, value, more }, high, scale, pinned) {
        const item = document.createElement("li"), chosen = lens.button("", () => pick([head, layer]));
        const words = (value > 0 && scale === "difference" ? "+" : "") + value.toFixed(3).replace("-", "−");
        chosen.dataset.head = `${layer + 1}.${head + 1}`;
        chosen.setAttribute("aria-pressed", String(Boolean(pinned && pinned[0] === head && pinned[1] === layer)));
        for (const [tag, text] of [["span", `layer ${layer + 1}, head ${head + 1}`], ["i", ""], ["b", words], ["em", more || ""]]) {
          chosen.append(Object.assign(document.createElement(tag), { textContent: text }));
        }
        chosen.children[1].style.setProperty("--share", `${(100 * Math.min(1, Math.abs(value) / (high || 1))).toFixed(1)}%`);
        chosen.children[1].className = value < 0 ? "lens-minus" : "lens-plus";
        item.append(chosen);
        return item;
      }
      return { draw };
    }
    return { headList, findHeads };
  })(),
);
