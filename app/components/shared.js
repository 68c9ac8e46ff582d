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

  return { plotly, coloured, download, copy, onTheme };
})();
