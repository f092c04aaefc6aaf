"""Grids of questions answered in one go: models x hardware x stacks x workloads x methods x sparsities.

The same path as `compare`, on arrays: each distinct op shape is priced once per block, the dense side once for all
methods, and blocks are small enough to keep memory flat.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Never

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pruninfersim import hardware as hardware_registry
from pruninfersim import models as model_registry
from pruninfersim import pruning
from pruninfersim import stacks as stack_registry
from pruninfersim._util.arrays import checked
from pruninfersim._util.callers import outside_of_package
from pruninfersim._util.defaults import CONTEXT
from pruninfersim._util.doors import door
from pruninfersim._util.words import ELSEWHERE, refuse
from pruninfersim.cost import CostModel
from pruninfersim.errors import InvalidInputError, LeftOutWarning
from pruninfersim.hardware import HardwareProfile, precision
from pruninfersim.models import ModelConfig
from pruninfersim.pruning import Method
from pruninfersim.questions.setup import Setup
from pruninfersim.questions.vocabulary import KEYWORDS, is_list, one_only
from pruninfersim.stacks import DEFAULT, Stack
from pruninfersim.sweep.blocks import FIELDS, Block, taken
from pruninfersim.sweep.runs import run_blocks
from pruninfersim.trace import PruningMethod
from pruninfersim.workload import Logits, Workload

if TYPE_CHECKING:
    import pandas as pd

#: Points that one block evaluates at a time: enough to hide the cost of a numpy call, few enough for the caches.
BLOCK_POINTS = 32768
#: Most points of a model, a GPU and a method: weeks of work for one process.
MOST_POINTS = 10**12
#: Blocks that one task evaluates together: enough to share their traces, few enough for its memory.
TOGETHER = 8
#: Columns that a frame of explicit rows must have.
ROW_COLUMNS = ("model", "hardware", "method", "sparsity", "phase", "batch", "context")
#: Columns that it may have.
ROW_EXTRAS = ("stack", "dtype")


@door
def sweep(
    *,
    models: Iterable[str | Path | ModelConfig] | str | Path | ModelConfig = (),
    hardware: Iterable[str | HardwareProfile] | str | HardwareProfile = (),
    workloads: Iterable[Workload] | Workload | None = None,
    methods: Iterable[Method] | PruningMethod | str | None = None,
    sparsity: ArrayLike = 0.5,
    stacks: Iterable[str | Stack | CostModel] | str | Stack | CostModel | None = None,
    dtype: str | None = None,
    model: Iterable[str | Path | ModelConfig] | str | Path | ModelConfig | None = None,
    method: Method | None = None,
    stack: Iterable[str | Stack | CostModel] | str | Stack | CostModel | None = None,
    phase: Iterable[str] | str | None = None,
    batch: ArrayLike | None = None,
    context: ArrayLike | None = None,
    logits: Logits | None = None,
    rows: pd.DataFrame | None = None,
    executor: Executor | None = None,
    out: str | Path | None = None,
    progress: bool | None = None,
    **other: Never,
) -> pd.DataFrame:
    """Answer a grid of questions, or a frame of explicit ones.

    Parameters
    ----------
    models, hardware, workloads, methods, stacks : one or several
        Axes of the grid. Workloads may have array fields, which are flattened. Methods are names, method classes or
        objects, or sequences of them, which are compositions. Default is every named method, where and as far as it can
        do what is asked; what is left out is in ``frame.attrs["notes"]``.
    model, method, stack
        The words of `pruninfersim.speedup` for the same: `model` and `stack` are one or several; `method` is one, a
        sequence being a composition.
    phase, batch, context, logits
        In place of `workloads`, each one or several: axes of the grid, phase first.
    sparsity : array_like, shape (sparsity,)
        Last axis of the grid [1], of the methods that are given by name. A method object has its own, and one row for
        each point of the other axes.
    dtype : str, optional
        Precision of the linear layers; default is each model's own.
    rows : DataFrame, optional
        Explicit questions in place of the grid: columns model, hardware, method, sparsity, phase, batch, context,
        and, if wanted, stack and dtype, else those of the keywords; other columns are the reader's own. The result has
        the same rows in the same order.
    executor : concurrent.futures.Executor, optional
        Runs the blocks, for instance a ``ProcessPoolExecutor`` or Dask's ``Client.get_executor()``.
    out : str or Path, optional
        Directory for a partitioned Parquet data set (needs pyarrow). Parts are written atomically; a run that was
        killed resumes where it stopped. The frame that comes back has then one row per part.
    progress : bool, optional
        Whether to show a progress bar; default is on long work in a terminal or notebook.

    Returns
    -------
    DataFrame
        Long form: text columns as categories, seconds and bytes in the column names, speedups without unit.

    Raises
    ------
    UnknownNameError, InvalidInputError
        For unknown names and keywords, and empty axes.

    Warns
    -----
    LeftOutWarning
        If a method that nobody named cannot do what is asked, and was left out.

    >>> from pruninfersim import Workload
    >>> grid = sweep(models="llama-3.1-8b", hardware=["h100-sxm", "l40s"], workloads=Workload.decode(batch=[1, 8]),
    ...              methods="static-width", sparsity=[0.25, 0.5], stacks="ideal")
    >>> len(grid), grid["estimated_speedup"].round(2).tolist()[:2]
    (8, [1.3, 1.87])
    >>> grid = sweep(model="llama-3.1-8b", hardware="h100-sxm", method="low-rank", phase="decode", stack="ideal",
    ...              sparsity=[0.25, 0.5], context=[1024, 4096, 16384])
    >>> len(grid)
    6
    """
    refuse(sweep, other)
    one_only("sweep", dtype=dtype)
    dtype = None if dtype is None else precision.get(dtype).dtype
    notes: list[str] = []
    if rows is not None:
        grid = {"models": models, "hardware": hardware, "workloads": workloads, "methods": methods, "model": model,
                "method": method, "phase": phase, "batch": batch, "context": context,
                "sparsity": None if np.array_equal(sparsity, 0.5) else sparsity}  # fmt: skip
        for name, value in grid.items():
            if value is not None and not (isinstance(value, tuple) and not value):
                raise InvalidInputError(f"rows say what is asked: {', '.join(ROW_COLUMNS)}; leave {name} out")
        same = {"stack": _either("stack", stack, "stacks", stacks), "dtype": dtype, "logits": logits}
        blocks, order = _blocks_of_rows(rows, {name: value for name, value in same.items() if value is not None})
    else:
        axes = {
            "models": _either("model", model, "models", models),
            "hardware": hardware,
            "methods": _either("method", None if method is None else [method], "methods", methods),
            "stacks": (DEFAULT,) if stack is None and stacks is None else _either("stack", stack, "stacks", stacks),
        }
        asked = {"phase": phase, "batch": batch, "context": context, "logits": logits}
        given = {name: value for name, value in asked.items() if value is not None}
        if given and workloads is not None:
            raise InvalidInputError(f"the workloads say it already; leave {next(iter(given))} out")
        parts = _by_protocol(axes, given) if workloads is None else [(axes, workloads)]
        blocks, order = [], None
        for part, work in parts:
            blocks += _blocks_of_grid(part, work, sparsity, dtype, notes, first_family=len(blocks))
    for note in notes:
        warnings.warn(note, LeftOutWarning, stacklevel=outside_of_package())
    frame = run_blocks(blocks, order=order, executor=executor, out=out, progress=progress)
    if notes:
        frame.attrs["notes"] = tuple(notes)
    return frame


def _either(one: str, value: Any, several: str, values: Any) -> Any:
    """Return what was given by one of two words for the same."""
    if value is None:
        return values
    if values is not None and not (isinstance(values, tuple) and not values):
        raise InvalidInputError(f"give {one} or {several}, not both")
    return value


def _by_protocol(axes: dict[str, Any], given: dict[str, Any]) -> list[tuple[dict[str, Any], list[Workload]]]:
    """Return the workloads of the keywords, for each group of stacks that runs the LM head on the same tokens."""
    several = _many(axes["stacks"], (str, CostModel), "stacks")
    gpus = _many(axes["hardware"], (str, HardwareProfile), "hardware")
    groups: dict[Any, list[Any]] = {}
    for each in several:
        protocol = stack_registry.get(each, hardware_registry.get(gpus[0])).protocol.logits
        groups.setdefault(given.get("logits") or protocol, []).append(each)
    batch, context = (
        checked(name, given.get(name, default), minimum=1).reshape(-1)
        for name, default in (("batch", 1), ("context", CONTEXT))
    )
    return [
        (
            axes | {"stacks": members},
            [
                Workload.of(each, batch[:, None], context, logits)
                for each in _many(given.get("phase", "prefill"), str, "phase")
            ],
        )
        for logits, members in groups.items()
    ]


def _many(values: Any, kind: type | tuple[type, ...], name: str) -> list[Any]:
    """Return the entries of an axis, which may be given alone: a stack is a function, too, and a method an object."""
    one = isinstance(values, kind) or callable(values) or (hasattr(values, "apply") and not is_list(values))
    several = [values] if one else list(values)
    if not several:
        raise InvalidInputError(f"the axis {name} is empty; give at least one")
    return several


def _blocks_of_grid(
    axes: dict[str, Any],
    workloads: Any,
    sparsity: ArrayLike,
    dtype: str | None,
    notes: list[str],
    *,
    first_family: int = 0,
) -> list[Block]:
    """Return the blocks of a grid; `notes` gets what of the default methods is left out."""
    chosen = [model_registry.get(model) for model in _many(axes["models"], (str, Path, ModelConfig), "models")]
    gpus = [hardware_registry.get(gpu) for gpu in _many(axes["hardware"], (str, HardwareProfile), "hardware")]
    methods = axes["methods"]
    several = pruning.names() if methods is None else _many(methods, str, "methods")
    ratios = np.atleast_1d(checked("sparsity", sparsity, minimum=0, below=1)).reshape(-1)
    if not ratios.size:
        raise InvalidInputError("sparsity is empty; give at least one number")
    parts = _within_reach(several, ratios, notes) if methods is None else _parts(several, ratios)
    merged = _merged(_many(workloads, Workload, "workloads"))
    points = sum(math.prod(workload.shape) for workload in merged) * len(ratios)
    if points > MOST_POINTS:
        raise InvalidInputError(f"a grid of {points:.3g} points is more than any run gets through; leave some out")
    pieces = [piece for workload in merged for piece in _chunks(workload, max(1, BLOCK_POINTS // len(ratios)))]
    questions = [(gpu, stack) for gpu in gpus for stack in _many(axes["stacks"], (str, CostModel), "stacks")]
    families: dict[tuple[Any, ...], int] = {}
    blocks = []
    for i, model in enumerate(chosen):
        for question, (gpu, stack) in enumerate(questions):
            able = [
                (_able(names, gpu, dtype or model.dtype, notes) if methods is None else names, axis)
                for names, axis in parts
            ]
            blocks += [
                Block(
                    model, gpu, stack, dtype, piece, names, axis,
                    family=families.setdefault(
                        (i, question // TOGETHER, j, part, names if methods is None else ()),
                        first_family + len(families),
                    ),
                )
                for j, piece in enumerate(pieces)
                for part, (names, axis) in enumerate(able)
                if names
            ]  # fmt: skip
    return blocks


def _parts(several: list[Any], ratios: NDArray[np.float64]) -> list[tuple[tuple[Any, ...], NDArray[np.float64]]]:
    """Return the methods that take the sparsities, and those with sparsities of their own, checked."""
    named = tuple(method for method in several if pruning.takes_sparsity(method))
    fixed = tuple(method for method in several if not pruning.takes_sparsity(method))
    for method in several:
        pruning.at(method, pruning.Axis(ratios))
    return [(kind, axis) for kind, axis in ((named, ratios), (fixed, np.zeros(1))) if kind]


def _within_reach(
    names: list[str], ratios: NDArray[np.float64], notes: list[str]
) -> list[tuple[tuple[Any, ...], NDArray[np.float64]]]:
    """Return the named methods by the sparsities that they can do; `notes` gets those that they cannot."""
    groups: dict[tuple[float, ...], list[str]] = {}
    for name in names:
        can = ratios <= pruning.largest(pruning.EVERY[name])
        if not can.all():
            beyond = ", ".join(f"{ratio:g}" for ratio in ratios[~can])
            _note(notes, f"left out at sparsity {beyond}: {pruning.unfit(pruning.EVERY[name], ratios)}")
        groups.setdefault(tuple(ratios[can].tolist()), []).append(name)
    return [(tuple(members), np.array(axis)) for axis, members in groups.items() if axis]


def _able(names: tuple[str, ...], gpu: HardwareProfile, dtype: str, notes: list[str]) -> tuple[str, ...]:
    """Return the named methods that a GPU can run; `notes` gets the others."""
    able = []
    for name in names:
        why = pruning.unfit(pruning.EVERY[name], None, gpu, dtype)
        if why:
            _note(notes, f"left out: {why}")
        else:
            able.append(name)
    return tuple(able)


def _note(notes: list[str], text: str) -> None:
    if text not in notes:
        notes.append(text)


def _blocks_of_rows(rows: pd.DataFrame, same: dict[str, Any]) -> tuple[list[Block], NDArray[np.intp]]:
    """Return the blocks of explicit rows, and the places of their rows; `same` is said once for all of them."""
    missing = [name for name in ROW_COLUMNS if name not in rows.columns]
    if missing:
        raise InvalidInputError(f"rows lack the column {', '.join(missing)}; needed: {', '.join(ROW_COLUMNS)}")
    for name in rows.columns:
        if name in same:
            raise InvalidInputError(f"rows have a column {name}; leave {name}=... out, or the column")
        if name in {*KEYWORDS, *ELSEWHERE} - {*ROW_COLUMNS, *ROW_EXTRAS}:
            raise InvalidInputError(f"rows have a column {name}, which a row cannot say; leave it out")
    one_only("sweep(rows=...)", **same)
    keys = ["model", "hardware", "phase", *(name for name in ROW_EXTRAS if name in rows.columns)]
    for name in (*keys, "method"):
        empty = np.flatnonzero(rows[name].isna())
        if empty.size:
            raise InvalidInputError(f"rows have no {name} in row {empty[0]}; fill it in, or leave the row out")
    method, names = rows["method"].factorize()
    blocks: list[Block] = []
    order: list[NDArray[np.intp]] = []
    groups: dict[Any, Any] = rows.groupby(keys, sort=False, observed=True).indices
    for values, index in groups.items():
        label = same | dict(zip(keys, values, strict=True))
        # Methods one after the other, so that all of them share the dense side.
        index = index[np.argsort(method[index], kind="stable")]
        for start in range(0, len(index), BLOCK_POINTS):
            part = index[start : start + BLOCK_POINTS]
            batch, context, ratio = (rows[name].to_numpy()[part] for name in ("batch", "context", "sparsity"))
            which, lengths = np.unique(method[part], return_counts=True)
            setup = Setup(label["model"], label["hardware"], label.get("stack", DEFAULT), label.get("dtype"))
            blocks.append(
                Block(
                    setup.model,
                    setup.hardware,
                    setup.stack,
                    setup.dtype,
                    setup.workload(label["phase"], batch, context, label.get("logits")),
                    tuple(names[i] for i in which),
                    checked("sparsity", ratio, minimum=0, below=1),
                    tuple(lengths.tolist()),
                    len(blocks),
                )
            )
            order.append(part)
    return blocks, np.concatenate(order) if order else np.zeros(0, dtype=np.intp)


def _merged(workloads: Sequence[Workload]) -> list[Workload]:
    """Return the workloads with fields of one number of axes: those of one kind as a list, crossed ones as they are.

    Fields that vary along axes of their own (batches crossed with lengths) stay short: what depends on one of them is
    then worked out once for all values of the other.
    """
    routings = {workload.routing for workload in workloads}
    if len(routings) > 1:
        raise InvalidInputError(
            f"a sweep takes workloads of one routing: its table has no column of it; got {', '.join(sorted(routings))}"
        )
    kinds: dict[tuple[Any, ...], list[Workload]] = {}
    for i, workload in enumerate(workloads):
        points = math.prod(workload.shape)
        crossed = i if all(getattr(workload, name).size < points for name in FIELDS) else -1
        kinds.setdefault((crossed, workload.phase, workload.logits, workload.causal), []).append(workload)
    merged = []
    for (crossed, phase, logits, causal), members in kinds.items():
        if crossed >= 0:
            axes = len(members[0].shape)
            fields = [np.array(getattr(members[0], name), ndmin=axes) for name in FIELDS]
        else:
            fields = [
                np.concatenate([np.broadcast_to(getattr(w, name), w.shape).reshape(-1) for w in members])
                for name in FIELDS
            ]
        merged.append(Workload(phase, fields[0], fields[1], fields[2], logits, causal, *routings))
    return merged


def _chunks(workload: Workload, size: int) -> Iterator[Workload]:
    """Cut a workload into pieces of at most `size` points, along its longest axis, so that all stay crossed."""
    shape = workload.shape
    if math.prod(shape) <= size:
        yield workload
        return
    axis = int(np.argmax(shape))
    step = max(1, size * shape[axis] // math.prod(shape))
    for start in range(0, shape[axis], step):
        yield from _chunks(taken(workload, slice(start, start + step), axis), size)
