"""Whole forward passes of the reference paper, predicted: its grid, Table 2, curves over sparsity, Pareto frontier."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pruninfersim._util.arrays import FloatArray
from pruninfersim._util.defaults import PHASES
from pruninfersim.questions import pareto
from pruninfersim.questions.comparison import NORMAL_90
from pruninfersim.questions.pareto import Curve, Frontier
from pruninfersim.questions.setup import Setup
from pruninfersim.sweep.grid import sweep
from pruninfersim.workload import Workload

if TYPE_CHECKING:
    import pandas as pd

#: The seven workloads of the paper: (batch, context).
WORKLOADS = ((1, 1024), (1, 8192), (1, 16384), (1, 32768), (8, 1024), (16, 1024), (32, 1024))
FAMILIES = (
    "static-depth", "low-rank", "semi-structured", "static-width", "static-width-cross", "dynamic-depth",
    "sparse-attention",
)  # fmt: skip
#: Sparsities of the paper's grid; 2:4 exists at a half only.
SPARSITIES = (0.125, 0.25, 0.375, 0.5)
#: Sparsities of its curves.
CURVE = tuple(np.round(np.linspace(0.0, 0.7, 15), 3).tolist())
#: What the paper measured: (model, GPU profile, precision). Nothing was fitted to the last two.
SETTINGS = (
    ("llama-3.1-8b", "rtx-pro-6000", "bf16"),
    ("qwen3-14b", "rtx-pro-6000", "bf16"),
    ("llama-3.1-8b", "a800-80gb", "fp16"),
)
#: Random draws of the families' errors behind the shares of `sampled_winners`.
DRAWS = 400


def published(name: str) -> pd.DataFrame:
    """Return a table of figures published in arXiv 2606.09080.

    Parameters
    ----------
    name : {"grid", "table2", "fig2", "fig6", "table7", "table8", "table9", "zero_sparsity"}

    >>> len(published("grid")), len(published("table2"))
    (42, 26)
    """
    import pandas as pd

    with resources.as_file(resources.files("pruninfersim.reproduce") / "data" / f"{name}.csv") as path:
        return pd.read_csv(path, comment="#")


def records(frame: pd.DataFrame) -> Iterator[Any]:
    """Return the rows of a frame, with columns as attributes."""
    return iter(frame.itertuples(index=False))


def workloads(model: str, gpu: str, stack: str) -> list[Workload]:
    """Return the seven workloads in both phases, with the LM head on the tokens that the stack's protocol gives it."""
    batch, context = (np.array(column) for column in zip(*WORKLOADS, strict=True))
    setup = Setup(model, gpu, stack)
    return [setup.workload(phase, batch, context) for phase in PHASES]


def predicted(
    model: str,
    gpu: str,
    dtype: str | None = None,
    *,
    stack: str = "paper",
    sparsities: Sequence[float] = SPARSITIES,
    methods: Sequence[str] = FAMILIES,
) -> pd.DataFrame:
    """Predict the grid of the paper for a model on a GPU.

    Parameters
    ----------
    model, gpu, stack : str
    dtype : str, optional
        Precision of the linear layers.
    sparsities : sequence of float
        2:4 is predicted at a half only.
    methods : sequence of str

    Returns
    -------
    DataFrame
        As `pruninfersim.sweep` returns it, text columns as plain text.

    >>> frame = predicted("llama-3.1-8b", "rtx-pro-6000", sparsities=[0.5], methods=["static-depth"])
    >>> len(frame), bool(frame.estimated_speedup.between(1.8, 2.0).all())
    (14, True)
    """
    import pandas as pd

    frames = []
    for names, values in (
        ([m for m in methods if m != "semi-structured"], list(sparsities)),
        ([m for m in methods if m == "semi-structured"], [0.5]),
    ):
        if names:
            frame = sweep(
                models=model, hardware=gpu, workloads=workloads(model, gpu, stack), methods=names, sparsity=values,
                stacks=stack, dtype=dtype, progress=False,
            )  # fmt: skip
            frames.append(frame.astype(dict.fromkeys(("model", "hardware", "method", "phase", "stack"), str)))
    return pd.concat(frames, ignore_index=True)


def means(frame: pd.DataFrame) -> pd.DataFrame:
    """Return mean, min, max over the workloads, and means of the interval's ends, by method, phase and sparsity."""
    groups = frame.groupby(["method", "phase", "sparsity"], sort=False)
    return groups.agg(
        mean=("estimated_speedup", "mean"),
        min=("estimated_speedup", "min"),
        max=("estimated_speedup", "max"),
        low=("estimated_low", "mean"),
        high=("estimated_high", "mean"),
        bound=("bound_speedup", "mean"),
    )


def beside_grid(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the published part of the grid with predictions, whether intervals hold it, and errors [%]."""
    keys = ["family", "phase", "batch", "context", "sparsity"]
    columns = ["estimated_speedup", "estimated_low", "estimated_high"]
    mine = frame.rename(columns={"method": "family"}).astype({"batch": int, "context": int})[keys + columns]
    both = published("grid").merge(mine, on=keys, how="left", validate="one_to_one")
    both["error"] = 100.0 * (both["estimated_speedup"] / both["speedup"] - 1.0)
    both["inside"] = both["speedup"].between(both["estimated_low"], both["estimated_high"])
    return both


def beside_table2(frame: pd.DataFrame) -> pd.DataFrame:
    """Return Table 2 with predictions: columns mean, min, max as published, and mean_p, min_p, max_p as predicted."""
    mine = means(frame).rename_axis(index={"method": "family"}).reset_index()
    return published("table2").merge(
        mine, on=["family", "phase", "sparsity"], suffixes=("", "_p"), how="left", validate="one_to_one"
    )


def shares(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the share of 1/(1-s) that is realised at a half: measured and predicted, by family and phase."""
    half = beside_table2(frame).query("sparsity == 0.5")
    return half.assign(measured=half["mean"] / 2.0, predicted=half["mean_p"] / 2.0)[
        ["family", "phase", "measured", "predicted"]
    ].reset_index(drop=True)


# --- Pareto -----------------------------------------------------------------------------------------------------


class Range(NamedTuple):
    """Quality losses [%] over which a family leads."""

    family: str
    start: float
    end: float


def prefill_curves(frame: pd.DataFrame, published_speeds: bool = False) -> dict[str, Curve]:
    """Return speed over quality loss in prefill, mean over the workloads, by family.

    Parameters
    ----------
    frame : DataFrame
        Of `predicted`, with the sparsities of the grid.
    published_speeds : bool
        Take the speeds of Table 2 where it has them (25 and 50 %).
    """
    speed: dict[Any, float] = means(frame).xs("prefill", level="phase")["mean"].to_dict()
    if published_speeds:
        table = published("table2").query("phase == 'prefill'")
        speed |= {(row.family, row.sparsity): row.mean for row in records(table)}
    found = pareto.curves(pareto.published_quality(), speed)
    return {family: found[family] for family in FAMILIES if family in found}


def undominated(best: Frontier) -> NDArray[np.bool_]:
    """Return where no smaller quality loss is as fast, shape (step,): beyond a family's last point a slower one may
    have the highest curve left, but nobody would choose it."""
    return np.asarray(best.speed >= np.maximum.accumulate(best.speed))


def ranges(best: Frontier) -> list[Range]:
    """Return who leads where, in order of quality loss, without the parts that a smaller loss dominates.

    >>> best = pareto.frontier(pareto.curves(pareto.published_quality(), lambda family, s: 1 / (1 - s)))
    >>> ranges(best)[0].family
    'dynamic-depth'
    """
    found: list[Range] = []
    for gap, family, kept in zip(best.gap, best.family, undominated(best), strict=True):
        if not kept:
            continue
        if found and found[-1].family == family:
            found[-1] = found[-1]._replace(end=float(gap))
        else:
            found.append(Range(family, float(gap), float(gap)))
    return found


def sampled_winners(
    frame: pd.DataFrame, *, draws: int = DRAWS, seed: int = 0
) -> tuple[FloatArray, dict[str, FloatArray]]:
    """Return in how many random draws of the errors each family leads in prefill, over quality loss.

    One error is drawn per family and used at all its sparsities: what a kernel model gets wrong, it gets wrong at each.

    Returns
    -------
    gap : ndarray, shape (step,) [%]
    leads : dict of family to ndarray, shape (step,) [1]
    """
    table = means(frame).xs("prefill", level="phase")
    points: dict[Any, FloatArray] = {
        key: np.log(row.to_numpy(dtype=float)) for key, row in table[["mean", "low", "high", "bound"]].iterrows()
    }
    quality, random = pareto.published_quality(), np.random.default_rng(seed)
    families = list(dict.fromkeys(table.index.get_level_values("method")))
    leads: dict[str, FloatArray] = {}
    gap: FloatArray = np.zeros(0)
    # Draws change the speeds alone: curves of the numbers of their points, the dense model being 1, say where they go.
    numbered = pareto.curves(quality, {key: 2.0 + i for i, key in enumerate(points)})
    for _ in range(draws):
        normal = dict(zip(families, random.standard_normal(len(families)) / NORMAL_90, strict=True))
        speed = np.array([np.nan, 1.0, *(_drawn(normal[key[0]], *values) for key, values in points.items())])
        best = pareto.frontier(
            {f: replace(curve, speed=speed[curve.speed.astype(int)]) for f, curve in numbered.items()}
        )
        gap, names, kept = best.gap, np.array(best.family), undominated(best)
        for family in families:
            leads[family] = leads.get(family, np.zeros(len(gap))) + (kept & (names == family)) / draws
    return gap, leads


def _drawn(error: float, mean: float, low: float, high: float, bound: float) -> float:
    """Return a speedup at `error` half-widths of its 90 % interval, never above its bound; arguments are logarithms."""
    return float(np.exp(min(bound, mean + error * ((high - mean) if error > 0 else (mean - low)))))
