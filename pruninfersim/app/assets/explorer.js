// What the page does without its server: the address bar, the clipboard, the colours, the picture of a figure.
(() => {
  const root = document.documentElement;
  const kept = (() => { try { return localStorage.getItem("pruninfersim-theme"); } catch { return null; } })();
  if (kept === "dark" || kept === "light") root.dataset.theme = kept;

  const copied = async (text, label) => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {  // no permission, or not a secure page: the old way
      const area = document.createElement("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    setTimeout(() => { for (const b of document.querySelectorAll("button")) if (b.textContent === "Copied") b.textContent = label; }, 1500);
    return "Copied";
  };
  const text = id => document.getElementById(id).textContent;

  window.dash_clientside = Object.assign({}, window.dash_clientside, {
    explorer: {
      address: query => {
        if (query !== null && query !== undefined) {
          window.history.replaceState(window.history.state, "", window.location.pathname + query);
        }
        return window.dash_clientside.no_update;
      },
      copyLink: (n, label) => copied(window.location.href, label),
      copyPython: (n, label) => copied(text("python"), label),
      copyCommand: (n, label) => copied(text("command"), label),
      theme: (n, label) => {
        const now = root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
        root.dataset.theme = now === "dark" ? "light" : "dark";
        try { localStorage.setItem("pruninfersim-theme", root.dataset.theme); } catch { /* not kept */ }
        return label;
      },
      png: async (n, label) => {
        const plot = document.querySelector("#figure .js-plotly-plot");
        const layout = {...plot.layout, title: {text: text("figure-title"), font: {size: 16}}, margin: {l: 70, r: 20, t: 50, b: 60}};
        const url = await window.Plotly.toImage({data: plot.data, layout}, {format: "png", width: 1000, height: 560, scale: 2});
        const link = document.createElement("a");
        link.href = url;
        link.download = "figure.png";
        link.click();
        root.dataset.picture = String(url.length);
        return label;
      },
    },
  });
})();
