"""Lines of the table, timing, and the page that is made of them."""

from __future__ import annotations

import os
import platform
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

HEAD = ("what", "size", "result", "per configuration", "aim", "met")
HOW = """
Wall time, one line after the other in one run, so that a slow machine slows all of them. The sweeps of grids and of
unrelated configurations run in a process of their own, after a small one that loads the calibrations. An aim is judged
at its full size only.
"""
#: Columns of the text of the page.
WIDTH = 120
#: Packages whose version changes the numbers.
PACKAGES = ("numpy", "pandas", "pyarrow", "dask", "aiconfigurator-core")


@dataclass(frozen=True)
class Line:
    """A line of the table; `met` is None where there is nothing to judge."""

    what: str
    size: str = ""
    result: str = ""
    each: str = ""
    aim: str = ""
    met: bool | None = None

    @property
    def cells(self) -> tuple[str, ...]:
        """The cells, as `HEAD` names them."""
        judged = {True: "yes", False: "**no**", None: ""}[self.met]
        return self.what, self.size, self.result, self.each, self.aim, judged


@dataclass(frozen=True)
class Part:
    """Lines that belong together, and what they mean."""

    lines: tuple[Line, ...]
    meaning: str


def timed(work: Callable[[], object], repeats: int = 1) -> float:
    """Return the shortest wall time of `repeats` runs [s]."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


def duration(seconds: float) -> str:
    """Return a time with three digits and a unit.

    >>> duration(0.0000111), duration(0.00477), duration(12.31)
    ('11.1 us', '4.77 ms', '12.3 s')
    """
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}" if seconds < 1000 * size else f"{seconds / size:.0f} {unit}"
    return f"{seconds * 1e6:.3g} us"


def machine() -> str:
    """Return what the numbers depend on: cores and versions."""
    known = [f"{os.cpu_count()} cores", f"Python {platform.python_version()}"]
    for name in PACKAGES:
        try:
            known.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(known)


def table(lines: Sequence[Line]) -> str:
    """Return the lines as a Markdown table."""
    rows = [HEAD, tuple("---" for _ in HEAD), *(line.cells for line in lines)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def filled(text: str, bullet: str = "") -> str:
    """Return a paragraph in lines of at most `WIDTH` columns."""
    words = " ".join(text.split())
    return textwrap.fill(
        words, WIDTH, initial_indent=bullet, subsequent_indent=" " * len(bullet), break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip


def page(parts: Sequence[Part], command: str) -> str:
    """Return the page of the documentation."""
    made = f"Made in the root of the repository by the command below, with {machine()}."
    meanings = "\n".join(filled(part.meaning, "- ") for part in parts)
    lines = table([line for part in parts for line in part.lines])
    top = f"# Benchmarks\n\n{filled(made)}\n\n```\n{command}\n```\n\n{lines}"
    return f"{top}\n## What the lines mean\n\n{filled(HOW)}\n\n{meanings}\n"
