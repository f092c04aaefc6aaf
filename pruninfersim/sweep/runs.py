"""Running the blocks of a sweep: here or on an executor, into a frame or into a directory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, as_completed
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pruninfersim.errors import PruninfersimError
from pruninfersim.sweep.blocks import Block, evaluate
from pruninfersim.sweep.parts import families, into_parts, joined

if TYPE_CHECKING:
    import pandas as pd

#: From this many blocks on a run counts as long, and shows a progress bar if someone watches.
LONG_RUN = 40


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
        return into_parts(blocks, Path(out), partial(_map, executor=executor, progress=progress))
    groups = families(blocks)
    parts: dict[int, dict[str, Any]] = {}
    for which, columns in _map(evaluate, [(([blocks[i] for i in family]),) for family in groups], executor, progress):
        parts |= zip(groups[which], columns, strict=True)
    frame = joined([parts[i] for i in range(len(blocks))])
    if order is not None:
        frame = frame.iloc[np.argsort(order, kind="stable")].reset_index(drop=True)
    return frame


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
            try:
                result = future.result()
            except BrokenExecutor as error:
                raise PruninfersimError(
                    f"a worker of the executor has died ({type(error).__name__}), of too little memory for instance; "
                    "what was written to out=... stays: ask again to go on"
                ) from None
            yield position, result
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
