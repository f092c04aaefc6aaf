"""Running the blocks of a sweep: here or on an executor, into a frame or into a Parquet data set."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, as_completed
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pruninfersim._util.files import atomically
from pruninfersim.errors import FileFormatError, InvalidInputError
from pruninfersim.sweep.blocks import Block, evaluate

if TYPE_CHECKING:
    import pandas as pd

#: From this many blocks on a run counts as long, and shows a progress bar if someone watches.
LONG_RUN = 40
#: File that tells which sweep a directory holds.
PLAN = "_plan.json"


def run_blocks(
    blocks: Sequence[Block],
    *,
    order: Any = None,
    executor: Executor | None = None,
    out: str | Path | None = None,
    progress: bool | None = None,
) -> pd.DataFrame:
    """Evaluate all blocks and return one frame, or write them to `out` and return the list of parts.

    Parameters
    ----------
    blocks : sequence of Block
    order : ndarray of int, optional
        Position of each row in the result; default is the order of the blocks.
    executor, out, progress : see `pruninfersim.sweep`
    """
    if out is not None:
        return _into_parts(blocks, Path(out), executor, progress)
    families = _families(blocks)
    parts: dict[int, dict[str, Any]] = {}
    for which, columns in _map(evaluate, [(([blocks[i] for i in family]),) for family in families], executor, progress):
        parts |= zip(families[which], columns, strict=True)
    frame = _joined([parts[i] for i in range(len(blocks))])
    if order is not None:
        frame = frame.iloc[np.argsort(order, kind="stable")].reset_index(drop=True)
    return frame


def _families(blocks: Sequence[Block]) -> list[list[int]]:
    """Return the positions of the blocks of each family."""
    members: dict[int, list[int]] = {}
    for position, block in enumerate(blocks):
        members.setdefault(block.family, []).append(position)
    return list(members.values())


def _map(
    work: Any, arguments: Sequence[tuple[Any, ...]], executor: Executor | None, progress: bool | None
) -> Iterator[tuple[int, Any]]:
    """Yield (position, result) as results come in.

    Without an executor one thread does it: between short array operations a second one would wait for the interpreter
    lock. Only the caller can start processes safely.
    """
    with _bar(len(arguments), progress) as advance:
        if executor is None:
            for position, given in enumerate(arguments):
                yield position, work(*given)
                advance()
            return
        futures = {executor.submit(work, *given): position for position, given in enumerate(arguments)}
        for future in as_completed(list(futures)):
            position = futures.pop(future)  # its result must not stay in memory for the whole run
            yield position, future.result()
            advance()


@contextmanager
def _bar(total: int, progress: bool | None) -> Iterator[Any]:
    """Show a progress bar in terminals and notebooks on long work; stay silent in pipes.

    In a notebook rich needs ipywidgets, and warns instead of drawing where they are missing.
    """
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    watched = find_spec("ipywidgets") is not None if console.is_jupyter else console.is_terminal
    show = (watched and total >= LONG_RUN) if progress is None else progress and watched
    with Progress(console=console, disable=not show, transient=True) as bar:
        task = bar.add_task("sweep", total=total)
        yield lambda: bar.advance(task)


def _joined(parts: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Concatenate block columns; categories are merged without building strings."""
    import pandas as pd

    if not parts:
        return pd.DataFrame()
    columns: dict[str, Any] = {}
    for name, first in parts[0].items():
        if isinstance(first, tuple):
            names = list(dict.fromkeys(label for part in parts for label in part[name][1]))
            renumber = [np.array([names.index(label) for label in part[name][1]]) for part in parts]
            codes = np.concatenate([new[part[name][0]] for new, part in zip(renumber, parts, strict=True)])
            columns[name] = pd.Categorical.from_codes(codes, categories=pd.Index(names))
        else:
            columns[name] = np.concatenate([part[name] for part in parts])
    return pd.DataFrame(columns, copy=False)


# --- Parquet ----------------------------------------------------------------------------------------------------


def _into_parts(blocks: Sequence[Block], out: Path, executor: Executor | None, progress: bool | None) -> pd.DataFrame:
    import pandas as pd

    try:
        import pyarrow as _  # noqa: F401
    except ImportError:
        raise InvalidInputError(
            "sweep(out=...) needs pyarrow; install it with: pip install 'pruninfersim[parquet]'"
        ) from None
    plan = [block.describe() for block in blocks]
    _claim(out, plan)
    parts = [out / _partition(what) / f"part-{i:06d}.parquet" for i, what in enumerate(plan)]
    left = [i for i, part in enumerate(parts) if not part.exists()]
    families = [[left[i] for i in family] for family in _families([blocks[i] for i in left])]
    todo = [([blocks[i] for i in family], [parts[i] for i in family]) for family in families]
    for _family, _rows in _map(write_parts, todo, executor, progress):
        pass
    return pd.DataFrame({"part": [str(p.relative_to(out)) for p in parts], "rows": [w["rows"] for w in plan]})


def _partition(what: dict[str, Any]) -> Path:
    return Path(f"model={what['model']}", f"hardware={what['hardware']}")


def _claim(out: Path, plan: list[dict[str, Any]]) -> None:
    """Make `out` the home of this plan, or check that it already is."""
    digest = hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()
    file = out / PLAN
    if file.exists():
        try:
            known = json.loads(file.read_text())["digest"]
        except (ValueError, KeyError) as error:
            raise FileFormatError(f"{file} is not the plan of a sweep: {error!r}; choose another directory") from None
        if known != digest:
            raise InvalidInputError(f"{out} holds another sweep; choose another directory, or delete it first")
        return
    if out.exists() and any(out.iterdir()):
        raise InvalidInputError(f"{out} is not empty and holds no sweep; choose another directory")
    out.mkdir(parents=True, exist_ok=True)
    atomically(file, lambda path: path.write_text(json.dumps({"digest": digest, "parts": len(plan)})))


def write_parts(family: Sequence[Block], paths: Sequence[Path]) -> int:
    """Evaluate a family and write each of its parts in one step: a reader sees the whole part or none."""
    rows = 0
    for columns, path in zip(evaluate(family), paths, strict=True):
        frame = _joined([columns]).drop(columns=["model", "hardware"])
        path.parent.mkdir(parents=True, exist_ok=True)
        atomically(path, partial(frame.to_parquet, index=False))
        rows += len(frame)
    return rows
