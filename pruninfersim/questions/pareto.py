"""Quality against speed: tables of quality loss, frontiers, transitions between families, the best method.

Quality is data, from a paper or from a file of one's own; speed is predicted for any GPU, workload and stack. Each
family is the piecewise-linear curve speed(gap) through its best point per sparsity, starting at (0, 1), as
arXiv 2606.09080 draws it; the frontier is the highest that any of them reaches at that loss or a smaller one.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from numpy.typing import ArrayLike

from pruninfersim._util.arrays import Answer, FloatArray, checked
from pruninfersim._util.doors import door, doors
from pruninfersim._util.files import TABLE, read_text
from pruninfersim._util.lazy import callable_module, drawn, shows
from pruninfersim.errors import FileFormatError, InvalidInputError, shown
from pruninfersim.pruning import METHODS
from pruninfersim.questions.answers import sides
from pruninfersim.questions.vocabulary import KEYWORDS, Question, asked

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "COLUMNS",
    "Curve",
    "Frontier",
    "best_method",
    "curves",
    "frontier",
    "predicted_speeds",
    "published_quality",
    "read_quality",
]

__dir__ = shows(__all__)

#: Columns of a quality table; further ones are kept.
COLUMNS = ("method", "family", "sparsity", "gap_percent")
#: Width of the steps at which a frontier is sampled [% points of quality loss].
STEP = 0.1
#: First quality loss that is too large to be one [%].
LARGEST_GAP = 1e4
TINY = 1e-9


@doors
@dataclass(frozen=True, eq=False, repr=False)
class Curve(Answer):
    """Speed over quality loss of one family, piecewise linear, from (0, 1).

    Attributes
    ----------
    family : str
    gap : ndarray, shape (point,)
        Quality loss, increasing, first 0 [%].
    speed : ndarray, shape (point,)
        Speedup at these losses, first 1 [1].
    """

    family: str
    gap: FloatArray
    speed: FloatArray

    def __repr__(self) -> str:
        points = ", ".join(f"{gap:g} %: {speed:.2f}" for gap, speed in zip(self.gap, self.speed, strict=True))
        return f"<Curve of {self.family}, speedup at a loss of {points}>"

    def at(self, gap: ArrayLike) -> FloatArray:
        """Return the speedup at a quality loss, shape of `gap`; NaN beyond the last point."""
        return np.asarray(np.interp(np.asarray(gap, dtype=float), self.gap, self.speed, right=np.nan))


@doors
@dataclass(frozen=True, eq=False, repr=False)
class Frontier(Answer):
    """The most speed that several curves offer for at most some quality loss: never less where more loss is allowed.

    Attributes
    ----------
    gap : ndarray, shape (step,)
        Quality loss [%].
    speed : ndarray, shape (step,)
        Highest speedup at that loss or a smaller one [1].
    family : tuple of str, one per step
        Who reaches it.
    curves : tuple of Curve
        What it is the frontier of.
    """

    gap: FloatArray
    speed: FloatArray
    family: tuple[str, ...]
    curves: tuple[Curve, ...] = ()

    def __repr__(self) -> str:
        changes = "".join(f", {after} from {gap:.3g} %" for gap, _, after in self.transitions)
        return f"<Frontier to a loss of {self.gap[-1]:g} %, speedup {self.speed[-1]:.2f}: {self.family[0]}{changes}>"

    @property
    def transitions(self) -> list[tuple[float, str, str]]:
        """Where the winner changes: (loss [%], from, to)."""
        pairs = zip(self.gap[1:], self.family[:-1], self.family[1:], strict=True)
        return [(float(gap), before, after) for gap, before, after in pairs if before != after]

    @property
    def hypervolume(self) -> float:
        """Area between the frontier and speedup 1 over the losses it spans [%]."""
        return float(np.trapezoid(self.speed - 1.0, self.gap))

    def plot(self, **options: Any) -> Any:
        """Return a plotly figure: the curves and their frontier."""
        return drawn(self, None, options)


@door
def published_quality() -> pd.DataFrame:
    """Return the quality table of arXiv 2606.09080, Table 10 (Llama-3.1-8B), one row per method and sparsity.

    >>> float(published_quality().query("method == 'SkipGPT' and sparsity == 0.5").gap_percent.iloc[0])
    15.59
    """
    with resources.as_file(resources.files("pruninfersim.questions") / "quality_beyond_flops.csv") as path:
        return read_quality(path)


@door
def read_quality(path: str | Path) -> pd.DataFrame:
    """Read a quality table of one's own.

    Parameters
    ----------
    path : str or Path
        CSV with columns ``method`` (any text), ``family`` (a name of `pruninfersim.pruning.METHODS`), ``sparsity``
        (in [0, 1)) and ``gap_percent`` (quality loss, not negative); lines that begin with # are comments.

    Raises
    ------
    FileFormatError
        If the file cannot be read, lacks a column or holds a wrong value.

    >>> lines = ["method,family,sparsity,gap_percent", "mine,static-width,0.25,1.8", "mine,static-width,0.5,9.7"]
    >>> _ = Path("quality.csv").write_text("\\n".join(lines))
    >>> read_quality("quality.csv").gap_percent.tolist()
    [1.8, 9.7]
    """
    file = Path(path)
    try:
        return quality_of(read_text(file, TABLE), file.name)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise FileFormatError(f"{file.name}: cannot be read as a CSV table: {reason}") from None


@door
def quality_of(text: str, name: str = "the table") -> pd.DataFrame:
    """Return a quality table from the text of its CSV file; format and errors as `read_quality`.

    Parameters
    ----------
    text : str
    name : str
        What messages call the table.

    >>> len(quality_of("method,family,sparsity,gap_percent\\nmine,low-rank,0.5,9"))
    1
    """
    import pandas as pd

    try:
        frame = pd.read_csv(io.StringIO(text, newline=None), comment="#")
    except ValueError as error:
        raise FileFormatError(f"{name}: cannot be read as a CSV table: {error}") from None
    return _checked_quality(frame, name)


def _checked_quality(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return a quality table as it is if it is one."""
    missing = [column for column in COLUMNS if column not in frame.columns]
    if missing:
        raise FileFormatError(f"{name}: no column {', '.join(missing)}; a quality table has {', '.join(COLUMNS)}")
    unknown = [family for family in frame["family"].unique() if family not in METHODS]
    if unknown:
        raise FileFormatError(f"{name}: unknown family {shown(unknown[0])}; allowed: {', '.join(sorted(METHODS))}")
    try:
        checked("sparsity", frame["sparsity"].to_numpy(), minimum=0, below=1)
        checked("gap_percent", frame["gap_percent"].to_numpy(), minimum=0, below=LARGEST_GAP)
    except InvalidInputError as error:
        raise FileFormatError(f"{name}: {error}") from None
    return frame


def quality_table(quality: pd.DataFrame | str | Path) -> pd.DataFrame:
    """Return a quality table that was given as one, or as the path of a file; errors as `read_quality`."""
    if isinstance(quality, str | Path):
        return read_quality(quality)
    if not hasattr(quality, "columns"):
        raise InvalidInputError(f"quality is a DataFrame or the path of a CSV file; got {shown(quality)}")
    return _checked_quality(quality, "the table")


@door
def curves(
    quality: pd.DataFrame | str | Path,
    speed: Mapping[tuple[str, float], float] | Callable[[str, float], float] | None = None,
    **question: Unpack[Question],
) -> dict[str, Curve]:
    """Return one curve per family, through its method of least loss at each sparsity.

    Parameters
    ----------
    quality : DataFrame, or path of a CSV file
        As `read_quality` returns it, or takes it.
    speed : mapping or callable, optional
        (family, sparsity) -> speedup [1], for instance the mean over workloads of `pruninfersim.speedup`.
    **question
        In place of `speed`: keywords of `pruninfersim.speedup` but method and sparsity, which predict it.

    Raises
    ------
    InvalidInputError
        If a speedup is not a positive number, or there is neither a speed nor a question.
    FileFormatError
        If the table lacks a column, or cannot be read.

    >>> best = curves(published_quality(), lambda family, s: 1 / (1 - s))
    >>> best["dynamic-depth"].gap.tolist()
    [0.0, 1.04, 3.96, 5.11, 15.59]
    >>> mine = curves(published_quality(), model="llama-3.1-8b", hardware="h100-sxm", phase="decode", stack="ideal")
    >>> best_method(mine, max_gap=6)[0]
    'dynamic-depth'
    """
    table = quality_table(quality)
    given = asked("pareto.curves", question, [name for name in KEYWORDS if name not in ("method", "sparsity")])
    if (speed is None) == (not given):
        raise InvalidInputError("give a speed, or the question that predicts it (model=..., hardware=...); one of them")
    if speed is None:
        speed = predicted_speeds(table, **given)
    lookup = speed if callable(speed) else lambda family, sparsity: speed[family, sparsity]
    out = {}
    for family, rows in table.groupby("family", sort=False):
        best = rows.groupby("sparsity")["gap_percent"].min()
        gaps = np.array([0.0, *best.to_numpy(dtype=float)])
        speeds = checked("speed", [1.0, *(lookup(str(family), float(s)) for s in best.index)], minimum=1e-9)
        order = np.argsort(gaps, kind="stable")
        out[str(family)] = Curve(str(family), gaps[order], speeds[order])
    return out


@door
def predicted_speeds(quality: pd.DataFrame, **question: Unpack[Question]) -> dict[tuple[str, float], float]:
    """Return the speedup of every family and sparsity of a quality table: (family, sparsity) -> speedup [1].

    Parameters
    ----------
    quality : DataFrame
        As `read_quality` returns it.
    **question
        Keywords of `pruninfersim.speedup` but method and sparsity.

    Raises
    ------
    UnknownNameError, InvalidInputError, MissingValueError
        As `pruninfersim.speedup`.

    >>> speeds = predicted_speeds(published_quality(), model="llama-3.1-8b", hardware="h100-sxm", stack="ideal")
    >>> 1.8 < speeds["static-width", 0.5] < 2.0
    True
    """
    known = [name for name in KEYWORDS if name not in ("method", "sparsity")]
    given = asked("pareto.predicted_speeds", question, known)
    pairs = sorted({(str(f), float(s)) for f, s in zip(quality["family"], quality["sparsity"], strict=True)})
    speeds = {
        pair: sides("pareto", None, None, given | dict(zip(("method", "sparsity"), pair, strict=True))).estimated
        for pair in pairs
    }
    if any(np.ndim(speed) for speed in speeds.values()):
        raise InvalidInputError("a frontier is that of one workload; give one batch and one context")
    return {pair: float(speed) for pair, speed in speeds.items()}


@door
def frontier(families: Mapping[str, Curve], *, largest_gap: float | None = None) -> Frontier:
    """Return the most speed for at most some quality loss, sampled every 0.1 % of it.

    Parameters
    ----------
    families : mapping of str to Curve
    largest_gap : float, optional
        Last quality loss; default is the largest at which some curve has a point [%].

    Raises
    ------
    InvalidInputError
        If there is no curve, or the largest loss is not a positive number.

    >>> best = frontier(curves(published_quality(), lambda family, s: 1 / (1 - s)), largest_gap=20)
    >>> best.family[1], best.transitions[0][1:]  # who leads first, and where the lead passes to
    ('dynamic-depth', ('dynamic-depth', 'semi-structured'))
    """
    if not families:
        raise InvalidInputError("no curve to take the frontier of; give at least one family")
    ends = max(float(curve.gap[-1]) for curve in families.values())
    last = ends if largest_gap is None else float(checked("largest_gap", largest_gap, minimum=STEP, below=LARGEST_GAP))
    gap = np.append(np.arange(0.0, last - TINY, STEP), last)
    heights = np.array([curve.at(gap) for curve in families.values()])
    heights = np.where(np.isnan(heights), -np.inf, heights)
    # A curve that has ended, or falls, still offers what it had: the best so far, by whoever reached it.
    so_far = np.maximum.accumulate(heights, axis=1)
    winner = np.argmax(so_far, axis=0)
    names = tuple(families)
    # At no loss every curve is 1: whoever leads at the first step leads there too.
    winner[0] = winner[min(1, len(winner) - 1)]
    return Frontier(gap, so_far[winner, np.arange(len(gap))], tuple(names[i] for i in winner), tuple(families.values()))


@door
def best_method(families: Mapping[str, Curve], max_gap: float) -> tuple[str, float]:
    """Return the family that is fastest at no more than a quality loss, and its speedup.

    Parameters
    ----------
    families : mapping of str to Curve
    max_gap : float
        Largest allowed quality loss [%].

    Raises
    ------
    InvalidInputError
        If there is no curve, or the loss is not a number of at least 0.

    >>> best_method(curves(published_quality(), lambda family, s: 1 / (1 - s)), max_gap=6)[0]
    'dynamic-depth'
    """
    limit = float(checked("max_gap", max_gap, minimum=0))
    if not families:
        raise InvalidInputError("no curve to choose from; give at least one family")

    def fastest(curve: Curve) -> float:
        inside = curve.gap <= limit
        end = curve.at(min(limit, float(curve.gap[-1])))
        return float(max(curve.speed[inside].max(), end))

    reach = {name: fastest(curve) for name, curve in families.items()}
    name = max(reach, key=lambda family: reach[family])
    return name, reach[name]


def _frontier_of(quality: pd.DataFrame | str | Path, **question: Unpack[Question]) -> Frontier:
    """Return the frontier of a quality table: what ``pruninfersim.pareto(table, model=..., hardware=...)`` does."""
    return frontier(curves(quality, **question))


callable_module(__name__, _frontier_of)
