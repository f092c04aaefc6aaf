"""Sweeps on disk: a Parquet data set in parts, each whole or absent, with a checksum beside it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pruninfersim._util.callers import outside_of_package
from pruninfersim._util.files import atomically, read_text
from pruninfersim.errors import CannotWriteError, DamagedPartWarning, FileFormatError, InvalidInputError
from pruninfersim.sweep.blocks import Block, one_by_one

if TYPE_CHECKING:
    import pandas as pd

#: File that tells which sweep a directory holds. Readers of Parquet skip names that begin with an underscore.
PLAN = "_plan.json"
#: Runs work on many arguments: yields (position, result).
Runner = Callable[[Any, Sequence[tuple[Any, ...]]], Iterator[tuple[int, Any]]]
#: So many damaged parts are named in a warning.
NAMED = 3


def families(blocks: Sequence[Block]) -> list[list[int]]:
    """Return the positions of the blocks of each family."""
    members: dict[int, list[int]] = {}
    for position, block in enumerate(blocks):
        members.setdefault(block.family, []).append(position)
    return list(members.values())


def joined(parts: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Concatenate block columns; categories are merged without building strings."""
    import pandas as pd

    if not parts:
        return pd.DataFrame()
    columns: dict[str, Any] = {}
    for name, first in parts[0].items():
        if isinstance(first, tuple):
            names = list(dict.fromkeys(label for part in parts for label in part[name][1]))
            # As pandas keeps them: gathering wide numbers takes several times as long.
            narrow = np.min_scalar_type(-len(names))
            renumber = [np.array([names.index(label) for label in part[name][1]], dtype=narrow) for part in parts]
            codes = np.concatenate([new[part[name][0]] for new, part in zip(renumber, parts, strict=True)])
            columns[name] = pd.Categorical.from_codes(codes, categories=pd.Index(names))
        else:
            columns[name] = np.concatenate([part[name] for part in parts])
    return pd.DataFrame(columns, copy=False)


def into_parts(blocks: Sequence[Block], out: Path, run: Runner) -> pd.DataFrame:
    """Write all blocks that `out` does not hold yet, and return the list of parts.

    Raises
    ------
    InvalidInputError
        If `out` holds something else, or pyarrow is missing.
    FileFormatError
        If the plan in `out` is none.
    CannotWriteError
        If a file cannot be written; what was written before stays.

    Warns
    -----
    DamagedPartWarning
        If parts were not as they had been written, or had no checksum, and were evaluated again.
    """
    import pandas as pd

    try:
        import pyarrow as _  # noqa: F401
    except ImportError:
        raise InvalidInputError(
            "sweep(out=...) needs pyarrow; install it with: pip install 'pruninfersim[parquet]'"
        ) from None
    plan = [block.describe() for block in blocks]
    try:
        _claim(out, plan)
        parts = [out / _partition(what) / f"part-{i:06d}.parquet" for i, what in enumerate(plan)]
        there = [part.exists() for part in parts]
        whole = [is_there and _whole(part) for is_there, part in zip(there, parts, strict=True)]
        left = [i for i, good in enumerate(whole) if not good]
        _warn([part.relative_to(out) for part, was, good in zip(parts, there, whole, strict=True) if was and not good])
        members = [[left[i] for i in family] for family in families([blocks[i] for i in left])]
        todo = [([blocks[i] for i in family], [parts[i] for i in family]) for family in members]
        for _family, _rows in run(write_parts, todo):
            pass
    except OSError as error:
        if isinstance(error, CannotWriteError):
            raise
        reason = error.strerror or str(error)
        raise CannotWriteError(f"cannot write to {out}: {reason}. What was written stays: ask again to go on") from None
    return pd.DataFrame({"part": [str(p.relative_to(out)) for p in parts], "rows": [w["rows"] for w in plan]})


def _partition(what: dict[str, Any]) -> Path:
    return Path(f"model={_label(what['model'])}", f"hardware={_label(what['hardware'])}")


def _label(name: str) -> str:
    """Return a name as part of a path: what leads elsewhere is written as readers of partitions decode it.

    >>> _label("../x"), _label("llama-3.1-8b")
    ('..%2Fx', 'llama-3.1-8b')
    """
    from urllib.parse import quote

    return quote(name, safe=" +@,;()[]&!$'")


def _claim(out: Path, plan: list[dict[str, Any]]) -> None:
    """Make `out` the home of this plan, or check that it already is; of two that come at once, one is first."""
    digest = hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()
    if "\0" in str(out):
        raise InvalidInputError("out holds a null character, which no name of a directory can")
    file = out / PLAN
    if not file.exists():
        if out.exists() and any(path.name[0] != "." for path in out.iterdir()):
            raise InvalidInputError(f"{out} is not empty and holds no sweep; choose another directory")
        out.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"digest": digest, "parts": len(plan)})
        with contextlib.suppress(FileExistsError):
            atomically(file, lambda path: path.write_text(text), replace=False)
    try:
        known = json.loads(read_text(file))["digest"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise FileFormatError(f"{file} is not the plan of a sweep: {error!r}; choose another directory") from None
    if known != digest:
        raise InvalidInputError(f"{out} holds another sweep; choose another directory, or delete it first")


def _sum_of(part: Path) -> Path:
    return part.with_name(f"_{part.stem}.sha256")


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _whole(part: Path) -> bool:
    """Return whether a part is as it was written."""
    try:
        return _digest(part) == read_text(_sum_of(part)).strip()
    except (OSError, UnicodeDecodeError):
        return False


def _warn(damaged: Sequence[Path]) -> None:
    if damaged:
        named = ", ".join(str(part) for part in damaged[:NAMED])
        more = f" and {len(damaged) - NAMED} more" if len(damaged) > NAMED else ""
        warnings.warn(
            f"{len(damaged)} parts are not as they were written, or have no checksum, and are evaluated again: "
            f"{named}{more}",
            DamagedPartWarning,
            stacklevel=outside_of_package(),
        )


def write_parts(family: Sequence[Block], paths: Sequence[Path]) -> int:
    """Evaluate a family and write each of its parts in one step: a reader sees the whole part or none.

    The checksum is there before the part is, so that no part is without one.
    """
    rows = 0
    for columns, path in zip(one_by_one(family), paths, strict=True):
        frame = joined([columns]).drop(columns=["model", "hardware"])
        path.parent.mkdir(parents=True, exist_ok=True)
        atomically(path, partial(_written, frame, _sum_of(path)))
        rows += len(frame)
    return rows


def _written(frame: pd.DataFrame, sum_file: Path, path: Path) -> None:
    frame.to_parquet(path, index=False)
    digest = _digest(path)
    atomically(sum_file, lambda temporary: temporary.write_text(digest + "\n"))
