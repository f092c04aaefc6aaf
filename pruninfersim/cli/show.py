"""How answers are written: tables for a terminal, CSV and JSON for programs; each row says what was asked."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from pruninfersim._util.table import fitting, printable, screen_width, table
from pruninfersim.cli.options import Format
from pruninfersim.cli.words import shell_words

if TYPE_CHECKING:
    import pandas as pd

#: What a row is about, in the order of its columns. In a table, what all rows share is in the title.
QUESTION = ("model", "gpu", "stack", "host", "tp", "phase", "batch", "context", "dtype", "sparsity", "method")


def show(
    rows: Sequence[Mapping[str, Any]],
    output: Format,
    *,
    title: str,
    legend: Mapping[str, str] | None = None,
    caption: str = "",
    drop: Sequence[str] = (),
    own: Sequence[str] = ("method",),
) -> None:
    """Write rows to standard output.

    Parameters
    ----------
    rows : sequence of mapping
        Their keys are the columns; those of `QUESTION` come first.
    output : Format
    title, caption : str
        Above and below a table. What all rows share of the question is added to the title.
    legend : mapping of str to str, optional
        Column -> what it is; told below a table that has the column.
    drop : sequence of str
        Columns that a narrow table can do without, the first goes first.
    own : sequence of str
        Parts of the question that stay columns even where all rows share them.
    """
    ordered = [{**{key: row[key] for key in QUESTION if key in row}, **row} for row in rows]
    names = list(dict.fromkeys(name for row in ordered for name in row))
    if output is Format.csv:
        text = io.StringIO()
        writer = csv.DictWriter(text, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _plain(row.get(name), joined=True) for name in names} for row in ordered)
        typer.echo(text.getvalue(), nl=False)
    elif output is Format.json:
        records = [{name: _plain(value) for name, value in row.items()} for row in ordered]
        typer.echo(json.dumps(records, indent=2, allow_nan=False))
    else:
        shared = {
            key: ordered[0][key]
            for key in QUESTION
            if ordered and key in ordered[0] and key not in own and len({str(row.get(key)) for row in ordered}) == 1
        }
        hidden = {*shared, "notes"}
        width = screen_width()
        cells = [{name: row.get(name) for name in names if name not in hidden} for row in ordered]
        columns = fitting(cells, width, drop)
        cells = [{name: row[name] for name in columns} for row in cells]
        about = question(shared)
        heading = f"{title}: {about}" if about and title else title or about
        told = [f"{name}: {text}" for name, text in (legend or {}).items() if name in columns]
        paragraphs = [heading, table(cells, width), "\n".join(told), caption]
        wrapped = ["\n".join(_filled(line, width) for line in text.splitlines()) for text in (heading, *paragraphs[2:])]
        blocks = [wrapped[0], paragraphs[1], *wrapped[1:]]
        typer.echo(printable("\n\n".join(block for block in blocks if block)))


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a frame, with None where it has no number."""
    rows = frame.astype(object).where(frame.notna(), None).to_dict(orient="records")
    return [{str(name): value for name, value in row.items()} for row in rows]


def question(shared: Mapping[str, Any]) -> str:
    """Return a question in words.

    >>> question({"model": "llama-3.1-8b", "gpu": "l4", "phase": "decode", "batch": 8, "sparsity": 0.5})
    'llama-3.1-8b on l4, decode, batch 8, sparsity 0.5'
    """
    where = [str(shared["model"])] if "model" in shared else []
    where += [f"on {shared['gpu']}" if where else str(shared["gpu"])] if "gpu" in shared else []
    parts = [" ".join(where)] if where else []
    for key, words in (
        ("method", "{}"), ("phase", "{}"), ("batch", "batch {:g}"), ("context", "context {:g}"), ("dtype", "{}"),
        ("sparsity", "sparsity {:g}"), ("stack", "stack {}"),
        ("host", "{} host"), ("tp", "tp {}"),
    ):  # fmt: skip
        if shared.get(key) is not None:
            parts.append(words.format(shared[key]))
    return ", ".join(parts)


def notes(found: Iterable[tuple[str, str]], everywhere: int) -> None:
    """Write notes to standard error, each once with the rows that it is about.

    Parameters
    ----------
    found : iterable of (str, str)
        What a note is about, and the note.
    everywhere : int
        Number of rows: a note about all of them names none.
    """
    about: dict[str, list[str]] = {}
    for row, note in found:
        about.setdefault(shell_words(note), []).append(row)
    for note, where in about.items():
        whom = list(dict.fromkeys(row for row in where if row))
        label = "" if len(where) >= everywhere > 1 or not whom else f"{', '.join(whom)}: "
        print(f"note: {label}{note}", file=sys.stderr)


def _filled(text: str, width: int | None) -> str:
    wide = 10_000 if width is None else width
    return textwrap.fill(text, wide, break_long_words=False, break_on_hyphens=False)


def _plain(value: Any, *, joined: bool = False) -> Any:
    """Return a value for JSON or CSV: numbers that are none as null, notes as a list or as one text."""
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) or not joined else value
    if isinstance(value, list | tuple):
        texts = [shell_words(each) if isinstance(each, str) else each for each in value]
        return "; ".join(map(str, texts)) if joined else texts
    return value
