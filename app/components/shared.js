// What several components need; put into the page's head once, as `lens`.
window.lens = (() => {
  let loading = null;

  // plotly.js from our own server, once, when the first chart asks for it.
  function plotly() {
    loading ||= new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = "@plotly";
      script.onload = () => resolve(window.Plotly);
      script.onerror = () => {
        loading = null;
        reject(new Error("plotly.js could not be loaded"));
      };
      document.head.append(script);
    });
    return loading;
  }

  // A copy of plain data with every "var(--name)" replaced by the colour it stands for at `element`.
  function coloured(value, element) {
    const style = getComputedStyle(element);
    const visit = (item) => {
      if (Array.isArray(item)) return item.map(visit);
      if (item && typeof item === "object") {
        return Object.fromEntries(Object.entries(item).map(([key, inner]) => [key, visit(inner)]));
      }
      const variable = typeof item === "string" && /^var\((--[\w-]+)\)$/.exec(item);
      return variable ? style.getPropertyValue(variable[1]).trim() : item;
    };
    return visit(value);
  }

  function download(name, blob) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }

  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      return false; // not allowed, or not a secure page
    }
  }

  // Calls back when the page turns light or dark. Gradio keeps the class "dark" on the body.
  function onTheme(callback) {
    let dark = document.body.classList.contains("dark");
    new MutationObserver(() => {
      const now = document.body.classList.contains("dark");
      if (now !== dark) {
        dark = now;
        callback();
      }
    }).observe(document.body, { attributes: true, attributeFilter: ["class"] });
  }

  // Draws a figure. Where only numbers differ from what is drawn, the curves move and the rest stays: less than half the work.
  const CONFIG = { displayModeBar: false, responsive: true, doubleClick: false, showTips: false };
  const AT_ONCE = { mode: "afterall", transition: { duration: 0 }, frame: { duration: 0, redraw: false } };
  async function paint(plot, figure) {
    const Plotly = await plotly();
    const { data, layout } = coloured(figure, plot);
    const former = plot.lensFrame; // what the drawn axes, legend and kinds of curves came from
    const kind = ({ name, fillcolor, line, y }) => [name, fillcolor, line, y.length, y.includes(null)];
    plot.lensFrame = JSON.stringify([layout, data.map(kind)]);
    plot.lensData = data;
    if (plot.lensFrame !== former) return void (await withoutBase(() => Plotly.react(plot, data, layout, CONFIG)));
    const placed = putCurves(plot, data);
    const moved = Promise.resolve(plot.lensMove).then(() => placed && nextFrame());
    plot.lensMove = moved.then(() => plot.lensData === data && move(Plotly, plot, data));
    if (!placed) await plot.lensMove;
  }

  // Puts lines and dots where they belong. plotly.js needs them too, for what is under the pointer, but measures half the
  // page first: it follows a frame later (`plot.lensMove`). Only for one plot with fixed axes; → whether that is so.
  function putCurves(plot, data) {
    const { xaxis, yaxis } = plot.layout;
    const drawn = [...plot.querySelectorAll(".scatterlayer .trace")];
    const plain = ({ mode, x, y, xaxis }) => /^lines(\+markers)?$/.test(mode) && !xaxis && !x.includes(null) && !y.includes(null);
    if (!xaxis?.range || !yaxis?.range || drawn.length !== data.length || !data.every(plain)) return false;
    const [across, up] = [plot._fullLayout.xaxis, plot._fullLayout.yaxis];
    data.forEach(({ x, y }, number) => {
      const points = x.map((at, i) => `${across.c2p(at).toFixed(2)},${up.c2p(y[i]).toFixed(2)}`);
      const part = (name) => [...drawn[number].querySelectorAll(name)];
      for (const line of part(".js-line")) line.setAttribute("d", "M" + points.join("L"));
      for (const area of part(".js-fill")) area.setAttribute("d", "M" + points.join("L") + "Z");
      part(".point").forEach((dot, i) => dot.setAttribute("transform", `translate(${points[i]})`));
    });
    return true;
  }

  // After the next frame is on the screen; in a hidden page, where there is none, soon.
  const nextFrame = () =>
    new Promise((resolve) => {
      requestAnimationFrame(() => setTimeout(resolve));
      setTimeout(resolve, 100);
    });

  // Done as soon as the curves are where they belong: plotly.js' own promise is kept a frame later, or never in a hidden page.
  function move(Plotly, plot, data) {
    const moved = new Promise((resolve) => plot.once("plotly_transitioned", resolve));
    return Promise.race([moved, Plotly.animate(plot, { data, traces: [...data.keys()] }, AT_ONCE)]);
  }

  // plotly.js writes the whole address into clip paths where the page has a <base>; they break when the address changes.
  function withoutBase(begin) {
    const base = document.querySelector("base[href]");
    const href = base && base.getAttribute("href");
    if (base) base.removeAttribute("href");
    try {
      return begin();
    } finally {
      if (base) base.setAttribute("href", href);
    }
  }

  // The address bar holds what the tab in front shows: each tab says its own query, turning to a tab brings it back.
  const queries = {};
  const besides = {}; // what other cards of a tab add to its query
  const asked = new URLSearchParams(location.search);
  let tab = asked.has("library") ? "library" : asked.has("measure") ? "measure" : asked.has("compare") ? "compare" : asked.has("run") ? "finetune" : "explore";
  const address = (query) => location.pathname + (query ? "?" + query : "");
  const placed = (name) => (queries[name] && besides[name] ? queries[name] + "&" + besides[name] : queries[name]);
  function show(name) {
    if (name === tab) history.replaceState(history.state, "", address(withTheme(placed(name))));
  }
  function place(name, query) {
    queries[name] = query;
    show(name);
  }
  function placeBeside(name, query) {
    besides[name] = query;
    if (name in queries) show(name);
  }
  function turnTo(name) {
    tab = name;
    if (name in queries) show(name);
    requestAnimationFrame(() => dispatchEvent(new Event("resize"))); // charts drawn while hidden have no width
  }
  function withTheme(query) {
    const parameters = new URLSearchParams(query);
    const theme = new URLSearchParams(location.search).get("__theme");
    if (theme) parameters.set("__theme", theme);
    return parameters.toString().replaceAll("%3A", ":").replaceAll("%2C", ",");
  }

  // What was clicked in a tab's list: an answer still under way, about the one before, must not turn the page back to it.
  const clicked = {};
  const chooseRun = (name, run) => (clicked[name] = run);
  const watching = (name, watch) => (clicked[name] ? { ...watch, run: clicked[name] } : watch);

  // --- taking along ---

  function button(label, run) {
    const made = Object.assign(document.createElement("button"), { type: "button", textContent: label });
    made.addEventListener("click", run);
    return made;
  }

  // A button that copies the page's address with the query that `find` gives.
  function copyButton(find) {
    const made = button("Copy link", async () => {
      const copied = await copy(new URL(address(withTheme(find())), location.href).href);
      made.textContent = copied ? "Copied" : "Copy it from the address bar";
      setTimeout(() => (made.textContent = "Copy link"), 1600);
    });
    return made;
  }

  // A figure by itself, on its card's own background, twice as fine as on the screen: `title` above it, below that in
  // small `words` on how to read it, `legend` lines at the bottom. → a blob
  async function picture(plot, figure, { title, words = "", legend = 0, format = "png" }) {
    const Plotly = await plotly();
    const background = getComputedStyle(plot.closest(".lens-card")).backgroundColor;
    const { data, layout } = coloured(figure, plot);
    const width = plot.clientWidth;
    const lines = words ? wrap(words, width / 6.2) : [];
    const top = 66 + 15 * lines.length;
    const room = { t: layout.margin.t + top - 26, b: layout.margin.b + 30 * legend };
    const height = layout.height + top - 26 + 30 * legend;
    const page = {
      ...layout,
      title: {
        text: title, x: 0.02, y: 1, yref: "container", yanchor: "top", pad: { t: 14 }, font: { size: 14 },
        subtitle: { text: lines.join("<br>"), font: { size: 12 } },
      },
      margin: { ...layout.margin, ...room },
      paper_bgcolor: background,
      plot_bgcolor: background,
      height,
    };
    if (legend) {
      const below = { orientation: "v", x: 0, y: 0, yref: "container", yanchor: "bottom", font: { size: 12 } };
      Object.assign(page, { legend: below, showlegend: true });
    }
    const url = await Plotly.toImage({ data, layout: page }, { format, width, height, scale: 2 });
    return (await fetch(url)).blob();
  }

  function wrap(words, most) {
    const lines = [""];
    for (const word of words.split(" ")) {
      if ((lines.at(-1) + " " + word).length > most) lines.push(word);
      else lines[lines.length - 1] = (lines.at(-1) + " " + word).trim();
    }
    return lines;
  }

  // The points that a figure shows as CSV: a row each, with the name of its plot and of its curve. A band is two curves.
  function table({ data, layout }, plots, [across, up]) {
    const rows = [["plot", "curve", across, up]];
    for (const { name, xaxis = "x", x, y, fill } of data) {
      const plot = plots[Number(xaxis.slice(1) || 1) - 1] || "";
      const half = x.length / 2;
      x.forEach((at, i) => {
        const curve = fill !== "toself" ? name : name + (i < half ? ", upper" : ", lower");
        if (y[i] !== null) rows.push([plot, curve, at, y[i]]);
      });
    }
    const quoted = (value) => (/[",\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : value);
    return rows.map((row) => row.map(quoted).join(",") + "\n").join("");
  }

  // The step that a chart's slider stands at, for other cards of the same key.
  const scrubs = {};
  const followers = [];
  const scrubbed = (key) => scrubs[key] ?? null;
  const onScrub = (callback) => followers.push(callback);
  function scrubTo(key, step) {
    if (scrubs[key] === step) return;
    scrubs[key] = step;
    followers.forEach((callback) => callback(key));
  }

  return {
    address, button, chooseRun, coloured, copy, copyButton, download, onScrub, onTheme, paint, picture, place,
    placeBeside, placed, plotly, scrubTo, scrubbed, table, turnTo, watching, withTheme, wrap,
  };
})();
