"""What the page says: from a state to values, with the questions of the library; nothing here knows of a browser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from pruninfersim import hardware, models, pruning, stacks
from pruninfersim._util.arrays import FloatArray
from pruninfersim.app import uploads
from pruninfersim.app.state import State
from pruninfersim.errors import MissingValueError, PruninfersimError
from pruninfersim.models import ModelConfig
from pruninfersim.plots.curves import CurveInfo
from pruninfersim.plots.heatmap import HeatmapInfo
from pruninfersim.pruning import spelling
from pruninfersim.questions import pareto
from pruninfersim.questions.capacity import Capacity, capacity
from pruninfersim.questions.comparison import Speedup
from pruninfersim.questions.hardware_ranking import DENSE, compare_hardware
from pruninfersim.questions.request import Request, request
from pruninfersim.questions.setup import Setup
from pruninfersim.workload import Workload

if TYPE_CHECKING:
    import pandas as pd

#: Points of a curve over sparsity, and the largest sparsity of one.
POINTS, END = 16, 0.75
#: Axes of the map.
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
CONTEXTS = (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)


@dataclass(frozen=True)
class Point:
    """One comparison that a reader can point at: a method, as it is spelled, on a GPU, at a batch and a context."""

    gpu: str
    method: str
    batch: int
    context: int


def focus(state: State) -> Point:
    """Return the comparison that headline, waterfall and roofline are about: first method, first GPU.

    >>> focus(State())
    Point(gpu='h100-sxm', method='static-width@0.5', batch=1, context=1024)
    """
    return Point(state.gpus[0], state.methods[0], state.batch, state.context)


def model(state: State) -> ModelConfig:
    """Return the model of a state."""
    return uploads.model_of(uploads.unpacked(state.config, "the model")) if state.config else models.get(state.model)


def setup(state: State, gpu: str) -> Setup:
    """Return the setup on one GPU; errors as `pruninfersim.Setup`."""
    return Setup(model(state), hardware.get(gpu), state.stack, state.dtype or None)


def speedup(state: State, point: Point) -> Speedup:
    """Return the comparison at a point; errors as `pruninfersim.speedup`."""
    return _speedup(state.model, state.config, state.stack, state.dtype, state.phase, point)


@lru_cache(maxsize=64)
def _speedup(name: str, config: str, stack: str, dtype: str, phase: str, point: Point) -> Speedup:
    here = setup(State(model=name, config=config, stack=stack, dtype=dtype), point.gpu)
    return here.compared(spelling.read(point.method), None, here.workload(phase, point.batch, point.context))


def problems(state: State) -> dict[str, str]:
    """Return what cannot be answered on the first GPU, by the field that is to blame: a GPU, a precision, a method.

    >>> problems(State(gpus=("v100-sxm-16gb",), dtype="fp8"))["dtype"][:29]
    'v100-sxm-16gb has no peak for'
    """
    try:
        here = setup(state, state.gpus[0])
        here.estimate(here.workload(state.phase, state.batch, state.context))
    except MissingValueError as error:
        return {"dtype" if state.dtype else "gpus": str(error)}
    except PruninfersimError as error:
        return {"stack": str(error)}
    wrong = {}
    for i, method in enumerate(state.methods):
        try:
            speedup(state, Point(state.gpus[0], method, state.batch, state.context))
        except PruninfersimError as error:
            wrong[f"methods.{i}"] = str(error)
    return wrong


def every(state: State) -> list[tuple[str, Speedup]]:
    """Return each method with its comparison on the first GPU."""
    gpu = state.gpus[0]
    return [(method, speedup(state, Point(gpu, method, state.batch, state.context))) for method in state.methods]


def room(state: State, method: str | None = None) -> Capacity:
    """Return what fits on the first GPU, dense or pruned; errors as `pruninfersim.capacity`."""
    how = None if method is None else spelling.read(method)
    return capacity(
        model=model(state), hardware=state.gpus[0], stack=state.stack, dtype=state.dtype or None, method=how,
        context=state.context,
    )  # fmt: skip


def requests(state: State) -> list[tuple[str, Request]]:
    """Return the request of the dense model and of each method on the first GPU; errors as `pruninfersim.request`."""
    asked: dict[str, Any] = {
        "model": model(state), "hardware": state.gpus[0], "stack": state.stack, "dtype": state.dtype or None,
        "batch": state.batch, "prompt": state.prompt, "new_tokens": state.new_tokens,
    }  # fmt: skip
    methods = [(DENSE, None), *((method, spelling.read(method)) for method in state.methods)]
    return [(label, request(**asked, method=method)) for label, method in methods]


def notes(state: State) -> list[tuple[str, str]]:
    """Return what to know before quoting the numbers: (method, note), each note once."""
    found: dict[str, list[str]] = {}
    for label, result in every(state):
        for note in (*result.notes, *(f"runs today: {note}" for note in result.runs_today)):
            found.setdefault(note.replace("see to_frame() of both sides", "see the table of ops"), []).append(label)
    return [("" if len(who) == len(state.methods) > 1 else ", ".join(who), note) for note, who in found.items()]


def scales(method: str) -> FloatArray:
    """Return the factors on the ratios of a method along its curve, shape (point,), 1 among them [1].

    >>> float(scales("semi-structured@0.25").max())
    2.0
    """
    several = spelling.parts(method)
    ends = [min(pruning.largest(pruning.EVERY[part.name]), END) / part.most for part in several if part.most > 0]
    return np.unique(np.append(np.linspace(0.0, max(1.0, min(ends)), POINTS), 1.0)) if ends else np.ones(1)


def scaled(method: str, scale: float) -> str:
    """Return a method, as it is spelled, with its ratios times a factor.

    >>> scaled("static-width@0.2/0.4", 2.0)
    'static-width@0.4/0.8'
    """
    return spelling.THEN.join(
        str(spelling.Part(part.name, part.sparsity * scale, None if part.mlp is None else part.mlp * scale))
        for part in spelling.parts(method)
    )


def curves(state: State) -> list[CurveInfo]:
    """Return one line per method on the first GPU: its ratios grow together, along what it removes in all."""
    here = setup(state, state.gpus[0])
    work = here.workload(state.phase, state.batch, state.context)
    lines, colours = [], colour_keys(state.methods)
    for method in state.methods:
        several = spelling.parts(method)
        result = here.compared(spelling.combined(several, scales(method)), None, work)
        claim = np.asarray(result.claim, dtype=float)
        values = (result.estimated, *result.interval, result.bound)
        estimated, low, high, bound = (np.broadcast_to(np.asarray(value), claim.shape) for value in values)
        removed = 1.0 - 1.0 / claim
        lines.append(CurveInfo(method, removed, estimated, low, high, bound, claim, method, colours[method]))
    return lines


def colour_keys(methods: Sequence[str]) -> dict[str, str]:
    """Return what each method is coloured by: the first of a family has the colour that the family has everywhere.

    >>> colour_keys(["low-rank@0.5", "low-rank@0.25"])
    {'low-rank@0.5': 'low-rank', 'low-rank@0.25': 'low-rank@0.25'}
    """
    keys: dict[str, str] = {}
    for method in methods:
        several = spelling.parts(method)
        family = several[0].name if len(several) == 1 else method
        keys[method] = method if family in keys.values() else family
    return keys


def over_map(state: State) -> tuple[HeatmapInfo, FloatArray]:
    """Return the speedup of the first method over batch and context, and where the pruned model fits."""
    here = setup(state, state.gpus[0])
    work = here.workload(state.phase, np.array(BATCHES)[:, None], np.array(CONTEXTS))
    result = here.compared(spelling.read(state.methods[0]), None, work)
    cells = np.broadcast_to(result.estimated, work.shape)
    info = HeatmapInfo(tuple(map(str, BATCHES)), tuple(map(str, CONTEXTS)), cells, "batch", "context")
    return info, np.broadcast_to(result.pruned.fits, work.shape)


def ranking(state: State) -> tuple[pd.DataFrame, list[str]]:
    """Return GPUs side by side, as `pruninfersim.compare_hardware` does, and which GPUs the engine does not know."""
    able, left_out = [], []
    for gpu in state.gpus:
        try:
            stacks.get(state.stack, hardware.get(gpu))
            able.append(gpu)
        except PruninfersimError as error:
            left_out.append(f"{gpu}: {error}")
    frame = compare_hardware(
        model(state), methods=[spelling.read(method) for method in state.methods], hardware=able, phase=state.phase,
        batch=state.batch, context=state.context, stack=state.stack, dtype=state.dtype or None,
    )  # fmt: skip
    # The rows of a GPU come in the order asked for, dense first.
    frame["method"] = [DENSE, *state.methods] * len(able)
    missing = frame[frame["note"] != ""].to_dict("records")
    return frame, left_out + [f"{row['hardware']}, {row['method']}: {row['note']}" for row in missing]


def quality_curves(state: State) -> tuple[Mapping[str, pareto.Curve], list[str]]:
    """Return speed over quality loss of the families of a quality table on the first GPU, and which cannot be run."""
    # The same for all methods and views: a change of those costs nothing here.
    return _quality_curves(replace(state, gpus=state.gpus[:1], methods=(), view="pareto"))


@lru_cache(maxsize=16)
def _quality_curves(state: State) -> tuple[Mapping[str, pareto.Curve], list[str]]:
    table = quality_table(state)
    here = setup(state, state.gpus[0])
    work = here.workload(state.phase, state.batch, state.context)
    speeds: dict[tuple[str, float], float] = {}
    left_out = []
    for family, rows in table.groupby("family", sort=False):
        ratios = np.unique(rows["sparsity"].to_numpy(dtype=float))
        try:
            result = here.compared(pruning.EVERY[str(family)](pruning.Axis(ratios)), None, work)
        except PruninfersimError as error:
            left_out.append(f"{family}: {error}")
            continue
        estimated = np.broadcast_to(np.asarray(result.estimated), ratios.shape)
        speeds |= {(str(family), float(s)): float(v) for s, v in zip(ratios, estimated, strict=True)}
    known = table[table["family"].isin([family for family, _ in speeds])]
    return pareto.curves(known, speeds), left_out


def quality_table(state: State) -> pd.DataFrame:
    """Return the quality table: the uploaded one, or the published one."""
    return uploads.table_of(uploads.unpacked(state.quality, "the quality table") if state.quality else "")


def ops(state: State, point: Point) -> pd.DataFrame:
    """Return the ops behind a point, dense beside pruned: shape, times [s], what limits them, what they rest on."""
    result = speedup(state, point)
    before, after = result.dense.to_frame(), result.pruned.to_frame()
    before["seconds before"] = before["seconds"]
    merged = after.merge(before[["name", "seconds before"]], on="name", how="left")
    gone = before[~before["name"].isin(after["name"])].assign(seconds=0.0, share=0.0)
    import pandas as pd

    return pd.concat([merged, gone], ignore_index=True) if len(gone) else merged


def step(state: State, name: str) -> list[tuple[str, float]]:
    """Return what a step of the waterfall adds role by role, most first [s]; empty for steps without roles.

    >>> [role for role, _ in step(State(methods=("low-rank@0.5",), stack="ideal"), "not pruned")][:2]
    ['act', 'attn_norm']
    """
    why = speedup(state, focus(state)).explain()
    added = zip(why.roles, np.asarray(why.by_role[name]).tolist(), strict=True) if name in why.by_role else ()
    return sorted(((role, seconds) for role, seconds in added if seconds), key=lambda pair: -abs(pair[1]))


def work_of(state: State) -> Workload:
    """Return the workload, as the engine counts it."""
    return setup(state, state.gpus[0]).workload(state.phase, state.batch, state.context)
