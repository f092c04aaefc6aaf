"""Tables for a terminal: no name and no number is ever cut; a narrow one has fewer columns, or stands upright."""

from __future__ import annotations

import math
import os
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

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


def table(rows: Sequence[Row], width: int | None, drop: Sequence[str] = ()) -> str:
    """Return rows as a table of at most `width` columns.

    Parameters
    ----------
    rows : sequence of mapping
        All of the same keys.
    width : int or None
        Columns of the screen; None for any.
    drop : sequence of str
        Columns that a narrow table can do without, the first goes first.

    >>> print(table([{"method": "low-rank", "estimated": 1.5, "high": 2.25}], 20, drop=["high"]))
    method    estimated
    ────────  ─────────
    low-rank       1.50
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: _Column(name, [row.get(name) for row in rows]) for name in names}
    shown = list(names)
    for name in drop:
        if width is None or _total(columns, shown, least=True) <= width:
            break
        if name in shown:
            shown.remove(name)
    if width is not None and _total(columns, shown, least=True) > width:
        return _upright(columns, len(rows), width)
    left = None if width is None else width - _total(columns, shown, least=False)
    widths = {name: columns[name].width for name in shown}
    for name in sorted(shown, key=lambda each: -widths[each]):
        if left is not None and left < 0 and columns[name].least < widths[name]:
            less = min(widths[name] - columns[name].least, -left)
            widths[name] -= less
            left += less
    bodies = [[columns[name].cells[i] for name in shown] for i in range(len(rows))]
    lines = _lines([columns[name].head for name in shown], shown, columns, widths, bottom=True)
    lines.append(GAP.join("─" * widths[name] for name in shown))
    for body in bodies:
        wrapped = [_wrap(cell, widths[name]) for name, cell in zip(shown, body, strict=True)]
        lines += _lines(wrapped, shown, columns, widths)
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


def _texts(values: Sequence[Any]) -> list[str]:
    """Return the cells of one column: floats with the decimals that the largest of them needs for four digits."""
    floats = [abs(v) for v in values if isinstance(v, float) and math.isfinite(v) and v]
    decimals = None
    if floats and max(floats) / min(floats) <= SPAN and 1e-4 <= max(floats) < 1e6:
        decimals = max(0, min(6, 2 - math.floor(math.log10(max(floats)) + 1e-9)))
    return [_text(value, decimals) for value in values]


def _text(value: Any, decimals: int | None) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        if math.isnan(value):
            return ""
        return f"{value:.4g}" if decimals is None or math.isinf(value) else f"{value:.{decimals}f}"
    return str(value)


def _wrap(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]


def _total(columns: Mapping[str, _Column], shown: Sequence[str], *, least: bool) -> int:
    widths = [columns[name].least if least else columns[name].width for name in shown]
    return sum(widths) + len(GAP) * (len(shown) - 1)


def _lines(
    cells: Sequence[list[str]],
    shown: Sequence[str],
    columns: Mapping[str, _Column],
    widths: Mapping[str, int],
    *,
    bottom: bool = False,
) -> list[str]:
    """Return the lines of one row whose cells have several lines each."""
    height = max((len(cell) for cell in cells), default=0)
    padded = [[""] * (height - len(cell)) + cell if bottom else cell + [""] * (height - len(cell)) for cell in cells]
    return [
        GAP.join(
            line[i].rjust(widths[name]) if columns[name].right else line[i].ljust(widths[name])
            for name, line in zip(shown, padded, strict=True)
        ).rstrip()
        for i in range(height)
    ]


def _upright(columns: Mapping[str, _Column], count: int, width: int) -> str:
    """Return one block of lines for each row, a column a line."""
    blocks = [listing([(name, column.cells[i]) for name, column in columns.items()], width) for i in range(count)]
    return "\n\n".join(blocks)
