"""Blocks that pages are made of; a page can be written as self-contained HTML and as Markdown for the documentation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from pruninfersim.report import page as html
from pruninfersim.report.page import Html

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Points:
    """A list."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Heading:
    """A heading inside a section."""

    text: str


@dataclass(frozen=True)
class Code:
    """Text that is shown as it is, in letters of one width."""

    text: str


@dataclass(frozen=True)
class Table:
    """A table; `formats` has one format per column, "" for text, and `folded` tables are opened by a click."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]
    formats: tuple[str, ...] = ()
    folded: bool = False


@dataclass(frozen=True, eq=False)
class Figure:
    """A figure; `numbers` stands in for it where no picture can be shown."""

    name: str
    fig: go.Figure
    caption: str
    numbers: Table | None = None


Block: TypeAlias = Text | Points | Heading | Code | Table | Figure
Section: TypeAlias = tuple[str, Sequence[Block]]


def to_html(title: str, lead: str, sections: Sequence[Section], *, inline: bool = True) -> str:
    """Return the page as one HTML text that loads nothing, or, if not `inline`, plotly.js from the file beside it.

    >>> "<p>a &lt; b</p>" in to_html("T", "lead", [("One", [Text("a < b")])])
    True
    """
    return html.page(
        title, lead, [(name, [_html(block) for block in blocks]) for name, blocks in sections], inline=inline
    )


def _html(block: Block) -> Html:
    if isinstance(block, Text):
        return html.paragraph(block.text)
    if isinstance(block, Points):
        return html.bullets(block.items)
    if isinstance(block, Heading):
        return Html(f"<h3>{html.escaped(block.text)}</h3>")
    if isinstance(block, Code):
        return Html(f"<pre>{html.escaped(block.text)}</pre>")
    if isinstance(block, Figure):
        return html.figure(block.name, block.fig, block.caption)
    text = html.table(block.caption, block.head, block.rows, block.formats)
    if not block.folded:
        return text
    return Html(f"<details><summary>{html.escaped(block.caption)}</summary>{text}</details>")


def to_markdown(title: str, lead: str, sections: Sequence[Section], note: str) -> str:
    """Return the page as Markdown; `note` says in a comment how it was made.

    >>> to_markdown("T", "lead", [("One", [Text("text")])], "made by hand").splitlines()[2]
    '<!-- made by hand -->'
    """
    parts = [f"# {title}", f"<!-- {note} -->", lead]
    for name, blocks in sections:
        parts += [f"## {name}", *(text for block in blocks if (text := _markdown(block)))]
    return "\n\n".join(parts) + "\n"


def _markdown(block: Block) -> str:
    if isinstance(block, Text):
        return block.text
    if isinstance(block, Points):
        return "\n".join(f"- {item}" for item in block.items)
    if isinstance(block, Heading):
        return f"### {block.text}"
    if isinstance(block, Code):
        return f"```text\n{block.text}\n```"
    if isinstance(block, Figure):
        return _markdown(block.numbers) if block.numbers is not None else ""
    text = _markdown_table(block)
    if not block.folded:
        return f"**{block.caption}**\n\n{text}"
    return f'<details markdown="1"><summary>{html.escaped(block.caption)}</summary>\n\n{text}\n\n</details>'


def _markdown_table(table: Table) -> str:
    formats = [*table.formats, *[""] * (len(table.head) - len(table.formats))]

    def cell(value: object, form: str) -> str:
        text = format(value, form) if isinstance(value, float) else str(value)
        return text.replace("|", "\\|")

    lines = [[cell(value, form) for value, form in zip(row, formats, strict=True)] for row in table.rows]
    rule = ["---:" if form else "---" for form in formats]
    return "\n".join("| " + " | ".join(line) + " |" for line in [list(table.head), rule, *lines])
