"""Draw the pictures of the README with Chromium: ``python docs/make_pictures.py``.

It makes an SVG of a figure, and a photograph of the explorer (extra `app`).
"""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from threading import Thread
from typing import Any

from plotly.offline import get_plotlyjs

import pruninfersim as pis

FOLDER = Path(__file__).with_name("pictures")
QUESTION: dict[str, Any] = {"model": "llama-3.1-8b", "hardware": "h100-sxm", "phase": "prefill", "context": 2048}
#: Draws a figure and leaves the picture, as a data URL, in the document.
PAGE = """<html><body><div id="plot"></div><script>{script}</script><script>
Plotly.newPlot("plot", {figure}).then(plot => Plotly.toImage(plot, {{format: "svg", width: 900, height: 480}}))
  .then(url => {{ document.body.innerHTML = "<pre id='picture'></pre>"; picture.textContent = btoa(url); }});
</script></body></html>"""


def chromium(*options: str) -> str:
    """Run the browser without a window and return what it prints."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("needs Chromium (Debian: apt-get install chromium)")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000", *options]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def picture(figure: Any) -> str:
    """Return a figure as the text of an SVG file."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "page.html"
        file.write_text(PAGE.format(script=get_plotlyjs(), figure=figure.to_json()), encoding="utf-8")
        page = chromium("--dump-dom", file.as_uri())
    found = re.search(r"<pre id=.picture.>([^<]+)</pre>", page)
    if found is None:
        sys.exit("the browser drew nothing")
    from urllib.parse import unquote

    return unquote(base64.b64decode(found[1]).decode("utf-8").removeprefix("data:image/svg+xml,"))


def photograph(path: Path) -> None:
    """Write a picture of the explorer as it opens, with the curves over sparsity."""
    from pruninfersim.app import program

    server = program.server(port=0)
    Thread(target=server.serve_forever, daemon=True).start()
    asked = "?view=sparsity&methods=static-width@0.5&methods=semi-structured@0.5&methods=low-rank@0.5"
    chromium(f"--screenshot={path}", "--window-size=1280,960", "--hide-scrollbars",
             f"http://127.0.0.1:{server.port}/{asked}")  # fmt: skip
    server.shutdown()


def main() -> None:
    """Write all pictures."""
    FOLDER.mkdir(exist_ok=True)
    why = pis.speedup(**QUESTION, method="semi-structured", sparsity=0.5)
    frame = pis.sweep(**QUESTION, sparsity=[0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7], progress=False)
    for name, figure in (("waterfall", why.plot("waterfall")), ("curves", pis.plots.curve_figure(frame))):
        path = FOLDER / f"{name}.svg"
        path.write_text(picture(figure), encoding="utf-8")
        print(f"wrote {path} ({path.stat().st_size // 1024} KB)")
    photograph(FOLDER / "explorer.png")


if __name__ == "__main__":
    main()
