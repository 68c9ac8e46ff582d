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
    if (plot.lensFrame === former) await Plotly.animate(plot, { data, traces: [...data.keys()] }, AT_ONCE);
    else await withoutBase(() => Plotly.react(plot, data, layout, CONFIG));
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
  const asked = new URLSearchParams(location.search);
  let tab = asked.has("compare") ? "compare" : asked.has("run") ? "finetune" : "explore";
  const address = (query) => location.pathname + (query ? "?" + query : "");
  function place(name, query) {
    queries[name] = withTheme(query);
    if (name === tab) history.replaceState(history.state, "", address(queries[name]));
  }
  function turnTo(name) {
    tab = name;
    if (name in queries) place(name, queries[name]);
    requestAnimationFrame(() => dispatchEvent(new Event("resize"))); // charts drawn while hidden have no width
  }
  function withTheme(query) {
    const parameters = new URLSearchParams(query);
    const theme = new URLSearchParams(location.search).get("__theme");
    if (theme) parameters.set("__theme", theme);
    return parameters.toString().replaceAll("%3A", ":").replaceAll("%2C", ",");
  }

  // The run that was clicked: an answer still under way, about the one before, must not turn the page back to it.
  let clicked = "";
  const chooseRun = (run) => (clicked = run);
  const watching = (watch) => (clicked ? { ...watch, run: clicked } : watch);

  return { chooseRun, watching, plotly, coloured, download, copy, onTheme, paint, place, turnTo, address, withTheme };
})();
