"""The tables of docs/reliability.md: each stands between two marks, and the command that makes it puts it there."""

from __future__ import annotations

from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reliability.md"


def put(mark: str, table: str) -> None:
    """Put a table between its marks, in place of the one that is there."""
    text = PAGE.read_text(encoding="utf-8")
    before, start, rest = text.partition(f"<!-- {mark} -->\n")
    _, end, after = rest.partition(f"<!-- end of {mark} -->")
    if not start or not end:
        raise SystemExit(f"{PAGE} has no marks for {mark}")
    PAGE.write_text(f"{before}{start}{table.rstrip()}\n{end}{after}", encoding="utf-8")
