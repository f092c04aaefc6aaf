"""The page around a report: styles, tables and figures as one HTML text that needs nothing from the network."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import plotly
from plotly.offline import get_plotlyjs

if TYPE_CHECKING:
    import plotly.graph_objects as go

#: Forbids every request: scripts and styles are inline, images are data.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:"
)
#: Options of plotly on the page: no logo, no button that would send data to a server.
CONFIG = {"displaylogo": False, "showSendToCloud": False, "plotlyServerURL": "", "responsive": True}
#: File that holds plotly.js where a page does not.
SCRIPT_FILE = "plotly.min.js"
#: Draws a figure; on a narrow screen the legend goes below, and margins shrink.
DRAW = """
function draw(name, data, layout, config) {
  if (window.innerWidth < 640) {
    layout.margin = {l: 48, r: 12, t: 60, b: 48};
    layout.legend = Object.assign({}, layout.legend, {orientation: "h", x: 0, y: -0.25, yanchor: "top"});
    layout.height = 560;
    if (layout.title) layout.title.font = {size: 13};
    config = Object.assign({}, config, {displayModeBar: false});
  }
  Plotly.newPlot(name, data, layout, config);
}
"""

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; color: #1a1a1a;
  background: #fff; max-width: 1080px; margin: 0 auto; padding: 1.5rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .25rem; }
h2 { font-size: 1.3rem; margin: 2.75rem 0 .5rem; padding-top: .75rem; border-top: 2px solid #0072B2; }
h3 { font-size: 1.05rem; margin: 1.75rem 0 .25rem; }
p, ul { margin: .5rem 0; max-width: 78ch; }
.lead { color: #444; margin-bottom: 1rem; }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1.1rem; list-style: none; padding: 0; }
a { color: #00578a; }
a:focus-visible, summary:focus-visible { outline: 3px solid #E69F00; outline-offset: 2px; }
table { border-collapse: collapse; width: 100%; margin: .75rem 0; font-size: .82rem;
  font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: .25rem 0; }
th, td { padding: .3rem .5rem; border-bottom: 1px solid #d8d8d8; text-align: left; vertical-align: top; }
thead th { border-bottom: 2px solid #888; vertical-align: bottom; }
td.n, th.n { text-align: right; }
td.n, tbody th { white-space: nowrap; }
tbody tr:nth-child(even) { background: #f6f8fa; }
.scroll { overflow-x: auto; }
figure { margin: 1rem 0 1.5rem; }
figcaption { color: #444; font-size: .9rem; max-width: 85ch; }
.plot { overflow-x: auto; }
pre { background: #f6f8fa; padding: .75rem; overflow-x: auto; font-size: .85rem; white-space: pre-wrap; }
.notice { border-left: 4px solid #E69F00; padding: .5rem .75rem; background: #fdf6e8; }
.skip { position: absolute; left: -999px; }
.skip:focus { left: 1rem; top: 1rem; background: #fff; padding: .5rem; }
@media print {
  @page { size: A4; margin: 14mm 12mm; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  nav, .skip, .modebar { display: none !important; }
  h2 { break-after: avoid; } h3, caption { break-after: avoid; }
  figure, table, tr { break-inside: avoid; }
  .plot { zoom: .76; overflow: visible; }
  table { font-size: 7.5pt; } th, td { padding: .15rem .25rem; }
  .scroll { overflow: visible; }
  a { color: inherit; text-decoration: none; }
}
"""


@dataclass(frozen=True)
class Html:
    """Text that is HTML already; everything else is escaped."""

    text: str

    def __str__(self) -> str:
        return self.text


def escaped(value: object) -> str:
    """Return a value as HTML text.

    >>> escaped("a < b"), escaped(Html("<b>a</b>"))
    ('a &lt; b', '<b>a</b>')
    """
    return value.text if isinstance(value, Html) else html.escape(str(value))


def paragraph(text: object) -> Html:
    """Return a paragraph."""
    return Html(f"<p>{escaped(text)}</p>")


def bullets(items: Iterable[object]) -> Html:
    """Return a list."""
    return Html(f"<ul>{''.join(f'<li>{escaped(item)}</li>' for item in items)}</ul>")


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[object]], formats: Sequence[str] = ()) -> Html:
    """Return a table; the first cell of a row is its header.

    Parameters
    ----------
    caption, head : str and sequence of str
    rows : sequences of cells
    formats : sequence of str, optional
        Format of each column, such as ".2f" for numbers, which then stand to the right; "" leaves a column as text.

    >>> "<td class='n'>1.50</td>" in table("speeds", ["name", "x"], [["a", 1.5]], ["", ".2f"]).text
    True
    """
    wanted = [*formats, *[""] * (len(head) - len(formats))]

    def kind(i: int) -> str:
        return " class='n'" if wanted[i] else ""

    top = "".join(f"<th scope='col'{kind(i)}>{escaped(name)}</th>" for i, name in enumerate(head))
    lines = []
    for row in rows:
        texts = [format(cell, wanted[i]) if isinstance(cell, float) else cell for i, cell in enumerate(row)]
        cells = "".join(f"<td{kind(i)}>{escaped(texts[i])}</td>" for i in range(1, len(texts)))
        lines.append(f"<tr><th scope='row'>{escaped(texts[0])}</th>{cells}</tr>")
    return Html(
        f"<div class='scroll'><table><caption>{escaped(caption)}</caption><thead><tr>{top}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def figure(name: str, fig: go.Figure, caption: str) -> Html:
    """Return a figure with a caption; `name` is its id on the page."""
    spec: dict[str, Any] = json.loads(fig.to_json())
    spec["layout"].pop("width", None)  # as wide as the page
    # Inside a script element no text may look like its end.
    data, layout = (
        json.dumps(spec[part]).replace("<", "\\u003c").replace("&", "\\u0026") for part in ("data", "layout")
    )
    label = html.escape(caption, quote=True)
    return Html(
        f"<figure><div class='plot'><div id='{name}' role='img' aria-label='{label}'></div></div>"
        f"<figcaption>{escaped(caption)}</figcaption>"
        f"<script>draw('{name}', {data}, {layout}, {json.dumps(CONFIG)});</script></figure>"
    )


def page(title: str, lead: str, sections: Sequence[tuple[str, Sequence[Html]]], *, inline: bool = True) -> str:
    """Return a whole page; plotly.js is in it once, or beside it in `SCRIPT_FILE` if not `inline`.

    Parameters
    ----------
    title, lead : str
        Heading, and the line below it.
    sections : sequence of (heading, blocks)
    """
    links = "".join(f"<li><a href='#s{i}'>{escaped(name)}</a></li>" for i, (name, _) in enumerate(sections, start=1))
    body = "".join(
        f"<section id='s{i}'><h2>{escaped(name)}</h2>{''.join(block.text for block in blocks)}</section>"
        for i, (name, blocks) in enumerate(sections, start=1)
    )
    source = f"/* plotly.js of plotly.py {escaped(plotly.__version__)}, MIT licence */\n"
    plotly_js = f"<script>{source}{get_plotlyjs()}</script>" if inline else f"<script src='{SCRIPT_FILE}'></script>"
    # A file beside the page is of no origin: browsers want its scheme by name.
    policy = POLICY if inline else POLICY.replace("script-src", "script-src 'self' file:")
    return (
        "<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'>"
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<link rel='icon' href='data:,'><title>{escaped(title)}</title><style>{STYLE}</style>"
        f"{plotly_js}<script>{DRAW}</script></head>"
        f"<body><a class='skip' href='#main'>Skip to the report</a><header><h1>{escaped(title)}</h1>"
        f"<p class='lead'>{escaped(lead)}</p><nav aria-label='Sections'><ul>{links}</ul></nav></header>"
        "<noscript><p class='notice'>The figures of this page are drawn by JavaScript, which is switched off here; "
        "all tables are complete without it.</p></noscript>"
        f"<main id='main'>{body}</main></body></html>\n"
    )
