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

  // Dash's dropdowns are named after their value alone, its radio buttons sit in a list box, and its uploads hide a
  // second control behind their button: give each the role and the name that it has for those who see it.
  const name = (element, attributes) => {
    for (const [key, value] of Object.entries(attributes)) {
      if (value === null) element.removeAttribute(key);
      else if (element.getAttribute(key) !== value) element.setAttribute(key, value);
    }
  };
  const told = () => {
    for (const button of document.querySelectorAll("button.dash-dropdown")) {
      const label = document.querySelector(`label[for="${button.id}"]`);
      if (!label) continue;
      name(label, {id: `${button.id}-label`});
      name(button, {"aria-labelledby": `${label.id} ${button.id}-value`});
    }
    for (const list of document.querySelectorAll(".dash-radioitems")) {
      const legend = list.closest("fieldset")?.querySelector("legend")?.textContent || "";
      name(list, {role: "radiogroup", "aria-label": list.closest("[role=group]")?.getAttribute("aria-label") || legend});
      for (const label of list.querySelectorAll("label")) name(label, {role: null, "aria-selected": null});
    }
    for (const file of document.querySelectorAll(".upload input[type=file]")) {
      name(file, {tabindex: "-1", "aria-label": file.parentElement.textContent});
    }
  };
  // An upload that is too large never reaches the server: say so here.
  const largest = 1000000;
  const taken = (event, files) => {
    const box = event.target.closest?.("[id^=upload-]");
    if (box && [...(files || [])].some(file => file.size > largest)) {
      const children = `the file is larger than ${largest / 1000} kB`;
      window.dash_clientside.set_props(box.id.replace("upload", "error"), {children});
    }
  };
  document.addEventListener("change", event => taken(event, event.target.files), true);
  document.addEventListener("drop", event => taken(event, event.dataTransfer?.files), true);

  const watch = () => {
    told();
    new MutationObserver(told).observe(document.body, {childList: true, subtree: true, attributes: true,
      attributeFilter: ["aria-labelledby", "role"]});
  };
  if (document.body) watch(); else document.addEventListener("DOMContentLoaded", watch);
})();
