"""Tables for a terminal: no name and no number is ever cut; a narrow one has fewer columns, or stands upright."""

from __future__ import annotations

import math
import os
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

#: Columns that say nothing one by one.
INTERVAL = ("low", "high")
#: Blanks between columns.
GAP = "  "
#: A column of text is wrapped, if it must be, but not to less than this.
NARROWEST_TEXT = 24
#: Longer cells are text, which may be wrapped at blanks; shorter ones are names.
LONGEST_NAME = 36
#: Numbers of one column that span more than this factor get as many digits each, not as many decimals.
SPAN = 1e4

Row = Mapping[str, Any]


def screen_width() -> int | None:
    """Return the columns of the terminal, ``COLUMNS`` first, or None where nobody says: a pipe is not cut."""
    if os.environ.get("COLUMNS", "").isdigit() or sys.stdout.isatty():
        return max(20, shutil.get_terminal_size().columns)
    return None


def fitting(rows: Sequence[Row], width: int | None, drop: Sequence[str] = ()) -> list[str]:
    """Return the columns that a table of at most `width` columns of text has.

    Parameters
    ----------
    rows : sequence of mapping
    width : int or None
        Columns of the screen; None for any.
    drop : sequence of str
        Columns that a narrow table can do without, the first goes first. One end of an interval takes the other along.

    >>> fitting([{"method": "low-rank", "estimated": 1.5, "high": 2.25}], 20, drop=["high"])
    ['method', 'estimated']
    """
    columns = _columns(rows)
    shown = list(columns)
    for name in drop:
        if width is None or _total(columns, shown, least=True) <= width:
            break
        gone = INTERVAL if name in INTERVAL else (name,)
        shown = [each for each in shown if each not in gone]
    return shown if width is None or _total(columns, shown, least=True) <= width else list(columns)


def table(rows: Sequence[Row], width: int | None) -> str:
    """Return rows as a table; as one block of lines for each row where a table is wider than `width`.

    >>> print(table([{"method": "low-rank", "estimated": 1.5}], 20))
    method    estimated
    ────────  ─────────
    low-rank        1.5
    """
    columns = _columns(rows)
    names = list(columns)
    if width is not None and _total(columns, names, least=True) > width:
        return _upright(columns, len(rows), width)
    over = 0 if width is None else max(0, _total(columns, names, least=False) - width)
    widths = {name: columns[name].width for name in names}
    for name in sorted(names, key=lambda each: -widths[each]):  # the widest column gives way first
        less = min(widths[name] - columns[name].least, over)
        widths[name] -= less
        over -= less
    lines = _lines([columns[name].head for name in names], columns, widths, bottom=True)
    lines.append(GAP.join("─" * widths[name] for name in names))
    for i in range(len(rows)):
        lines += _lines([_wrap(columns[name].cells[i], widths[name]) for name in names], columns, widths)
    return "\n".join(lines)


def listing(pairs: Sequence[tuple[str, str]], width: int | None) -> str:
    """Return names and what they stand for, one a line; long texts are wrapped beside the names.

    >>> print(listing([("vendor", "NVIDIA"), ("tdp", "700 W")], 40))
    vendor  NVIDIA
    tdp     700 W
    """
    left = max((len(name) for name, _ in pairs), default=0)
    lines = []
    for name, text in pairs:
        room = 10_000 if width is None else max(NARROWEST_TEXT, width - left - len(GAP))
        for i, part in enumerate(_wrap(text, room)):
            lines.append(f"{name if i == 0 else '':<{left}}{GAP}{part}".rstrip())
    return "\n".join(lines)


def printable(text: str) -> str:
    """Return a text without the characters that standard output cannot show."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.replace("─", "-").encode(encoding, "replace").decode(encoding)
    return text


class _Column:
    """One column: its head in lines of words, its cells as text, and how narrow it can be."""

    def __init__(self, name: str, values: Sequence[Any]) -> None:
        self.cells = _texts(values)
        numbers = [isinstance(value, int | float) and not isinstance(value, bool) for value in values]
        self.right = any(numbers) and all(n or v is None for n, v in zip(numbers, values, strict=True))
        longest = max((len(cell) for cell in self.cells), default=0)
        words = max((len(word) for cell in self.cells for word in cell.split()), default=0)
        room = max(longest, max(len(word) for word in name.split() or [""]))
        self.head = _wrap(name, max(room, 1))
        head = max((len(line) for line in self.head), default=0)
        self.width = max(longest, head)
        text = longest > LONGEST_NAME
        self.least = max(head, words, min(longest, NARROWEST_TEXT)) if text else self.width


def _columns(rows: Sequence[Row]) -> dict[str, _Column]:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: _Column(name, [row.get(name) for row in rows]) for name in names}


def _texts(values: Sequence[Any]) -> list[str]:
    """Return the cells of one column: floats with as many decimals as the largest of them is worth."""
    floats = [abs(v) for v in values if isinstance(v, float) and math.isfinite(v) and v]
    decimals = None
    if floats and max(floats) / min(floats) <= SPAN and 1e-4 <= max(floats) < 1e6:
        size = math.floor(math.log10(max(floats)) + 1e-9)
        worth = 2 - size if size <= 1 else 1 if size == 2 else 0
        decimals = next((d for d in range(worth) if all(round(v, d) == v for v in floats)), worth)
    return [_text(value, decimals) for value in values]


def _text(value: Any, decimals: int | None) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        if math.isnan(value):
            return ""
        text = f"{value:.4g}" if decimals is None or math.isinf(value) else f"{value:.{decimals}f}"
        return text.lstrip("-") if float(text) == 0 else text
    return str(value)


def _wrap(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]


def _total(columns: Mapping[str, _Column], shown: Sequence[str], *, least: bool) -> int:
    widths = [columns[name].least if least else columns[name].width for name in shown]
    return sum(widths) + len(GAP) * (len(shown) - 1)


def _lines(
    cells: Sequence[list[str]], columns: Mapping[str, _Column], widths: Mapping[str, int], *, bottom: bool = False
) -> list[str]:
    """Return the lines of one row whose cells have several lines each."""
    height = max((len(cell) for cell in cells), default=0)
    padded = [[""] * (height - len(cell)) + cell if bottom else cell + [""] * (height - len(cell)) for cell in cells]
    return [
        GAP.join(
            line[i].rjust(widths[name]) if column.right else line[i].ljust(widths[name])
            for (name, column), line in zip(columns.items(), padded, strict=True)
        ).rstrip()
        for i in range(height)
    ]


def _upright(columns: Mapping[str, _Column], count: int, width: int) -> str:
    """Return one block of lines for each row, a column a line."""
    blocks = [listing([(name, column.cells[i]) for name, column in columns.items()], width) for i in range(count)]
    return "\n\n".join(blocks)
