"""What a change moves: ``python -m tests.predictions``; with ``--write`` what is kept becomes what is predicted now."""

from __future__ import annotations

import sys

from tests.predictions import kept


def main(arguments: list[str]) -> int:
    """Print the size of every difference by kind of prediction."""
    new = kept.now()
    if arguments == ["--write"]:
        kept.write(new)
        print(f"wrote {len(new)} predictions to {kept.FILE.name}")
        return 0
    moved = kept.moved(kept.read(), new)
    print(f"{len(moved)} of {len(new)} predictions moved")
    print(moved.to_string(max_rows=60))
    if len(moved):
        print(kept.by_kind(moved).to_string())
    return int(len(moved) > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
