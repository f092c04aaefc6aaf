"""What the site needs beside mkdocs: notebooks as pages, the README as a page, plotly.js from the installed package."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from plotly.offline import get_plotlyjs

from pruninfersim.report.page import CONFIG, DRAW

ROOT = Path(__file__).resolve().parents[1]
ANSI = re.compile(r"\x1b\[[0-9;]*m")


def on_files(files: Files, config: Any) -> Files:
    """Add generated pages; notebooks become Markdown pages with their stored outputs."""
    for file in list(files):
        if file.src_uri.endswith(".ipynb"):
            files.remove(file)
            page = notebook_page(
                json.loads(Path(str(file.abs_src_path)).read_text(encoding="utf-8")), Path(file.src_uri).stem
            )
            files.append(File.generated(config, file.src_uri.removesuffix(".ipynb") + ".md", content=page))
    readme = (ROOT / "README.md").read_text(encoding="utf-8").replace("](docs/", "](")
    readme = re.sub(r"\[([^\]]+)\]\((?:CONTRIBUTING|CHANGELOG|CITATION|LICENSE)[^)]*\)", r"`\1`", readme)
    files.append(File.generated(config, "readme.md", content=readme))
    files.append(File.generated(config, "assets/plotly.min.js", content=get_plotlyjs() + DRAW))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Let links to the README, and to notebooks, lead to their pages."""
    return re.sub(r"\]\((notebooks/[\w-]+)\.ipynb\)", r"](\1.md)", markdown.replace("](../README.md)", "](readme.md)"))


def notebook_page(notebook: dict[str, Any], name: str) -> str:
    """Return a notebook as Markdown."""
    # No table of contents at the side: the figures need the width.
    parts, plots = ["---\nhide: [toc]\n---"], 0
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "application/vnd.plotly.v1+json" in data:
                parts.append(plot(data["application/vnd.plotly.v1+json"], f"{name}-{plots}"))
                plots += 1
            elif "text/html" in data:
                # No blank line inside: Markdown would end the block there.
                table = re.sub(r"\n\s*\n", "\n", "".join(data["text/html"]))
                # The theme styles tables that have no style of their own.
                table = table.replace('<table border="1" class="dataframe">', "<table>")
                parts.append(f'<div class="output" style="overflow-x:auto" markdown="0">\n{table}\n</div>')
            else:
                text = ANSI.sub("", "".join(output.get("text", data.get("text/plain", ""))))
                parts.append(f"```text\n{text.rstrip()}\n```")
    return "\n\n".join(parts) + "\n"


def plot(spec: dict[str, Any], name: str) -> str:
    """Return a stored plotly figure as an element that draws itself once plotly.js is there."""
    spec["layout"].pop("width", None)  # as wide as the page
    data, layout = (
        json.dumps(spec[part]).replace("<", "\\u003c").replace("&", "\\u0026") for part in ("data", "layout")
    )
    drawn = f"draw('{name}', {data}, {layout}, {json.dumps(CONFIG)})"
    return (
        f'<div style="overflow-x:auto;background:#fff" markdown="0"><div id="{name}"></div></div>'
        f"<script>window.addEventListener('load', () => {drawn});</script>"
    )
