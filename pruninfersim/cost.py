"""Cost model: which kernel model prices which ops of a trace, and the estimate that comes out."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pruninfersim._arrays import FloatArray, sealed
from pruninfersim._distinct import SMALL, Shapes
from pruninfersim.errors import UnknownNameError
from pruninfersim.hardware import HardwareProfile
from pruninfersim.kernels.base import KernelModel, Quantised, compute_time, roofline
from pruninfersim.trace import OpTrace, twins
from pruninfersim.uncertainty import EXACT, Errors, Spread

if TYPE_CHECKING:
    import pandas as pd

#: What an estimate rests on: a definition, a fit on this GPU, published anchors, or a fit carried over from elsewhere.
Provenance = Literal["roofline", "calibrated", "measured", "extrapolated"]
#: An op whose roofline is below this share of its time is bound by overhead, not by compute or memory.
OVERHEAD_SHARE = 0.5


@dataclass(frozen=True)
class Priced:
    """A kernel model with what is known about its error.

    Attributes
    ----------
    model : KernelModel
    provenance : {"roofline", "calibrated", "measured", "extrapolated"}
    spread : Spread
        90 % band of its predictions.
    group : str
        Kernels of one group share the common part of their error.
    source : str
        Data set, paper or definition behind it.
    launches : float
        Launches of one run that are not part of the model's own time; each costs the gap of the stack.
    """

    model: KernelModel
    provenance: Provenance
    spread: Spread = EXACT
    group: str = ""
    source: str = ""
    launches: float = 1.0


@dataclass(frozen=True)
class CostModel:
    """A value: kernel key -> priced kernel model, for one stack on one GPU.

    Attributes
    ----------
    stack : str
        Name of the software stack.
    hardware : HardwareProfile
    kernels : mapping of str to Priced
        By kernel key, or by ``"key/dtype"`` where a dtype has a kernel of its own.
    launch_gap : float
        Time that each kernel launch adds beside the kernel's own time [s].
    repeatability : float
        Half-width at 90 % of ln of two measurements of the same speedup [1]; part of every interval of a speedup.
    mask_draws : int
        Random token masks over which a measurement of dynamic pruning averages; 0 if over very many.
    """

    stack: str
    hardware: HardwareProfile
    kernels: Mapping[str, Priced]
    launch_gap: float = 0.0
    repeatability: float = 0.0
    mask_draws: int = 0

    def priced(self, key: str, dtype: str) -> Priced:
        """Return what prices a kernel key at a dtype: the entry ``"key/dtype"`` if there is one, else ``"key"``."""
        return self.kernels.get(f"{key}/{dtype}") or self.kernels[key]

    def with_kernel(self, key: str, priced: Priced) -> CostModel:
        """Return a cost model in which `key` is priced by another kernel."""
        return replace(self, kernels={**self.kernels, key: priced})

    def without_quantisation(self) -> CostModel:
        """Return a cost model whose kernels run in fractions of tiles and waves, where they know how to."""
        smooth = {
            key: replace(priced, model=priced.model.without_quantisation())
            for key, priced in self.kernels.items()
            if isinstance(priced.model, Quantised)
        }
        return replace(self, kernels={**self.kernels, **smooth})

    def predict(self, trace: OpTrace | Shapes, *, known: Estimate | None = None) -> Estimate:
        """Price every op of a trace.

        Parameters
        ----------
        trace : OpTrace or Shapes
            A trace, or its distinct shapes, which several cost models can price.
        known : Estimate, optional
            Of this cost model, for instance of the dense trace: ops that run just as there are not priced again.

        Raises
        ------
        UnknownNameError
            If the trace has an op that no kernel of the stack can run.
        MissingValueError
            If the profile lacks a figure that an op needs (for instance an fp8 peak).
        """
        ops = trace.trace if isinstance(trace, Shapes) else trace
        missing = sorted(set(ops.kernel) - set(self.kernels))
        if missing:
            raise UnknownNameError(
                f"stack {self.stack!r} has no kernel for {', '.join(missing)}. It has: "
                f"{', '.join(sorted(self.kernels))}. Add one with CostModel.with_kernel"
            )
        if known is not None and known.cost_model is not self:
            known = None
        shape = ops.shape
        if int(np.prod(shape)) <= SMALL:
            run, floor = self._one_by_one(ops, shape, known)
        else:
            before = known.trace if known else None
            shapes = trace if isinstance(trace, Shapes) and trace.known is before else Shapes.of(ops, before)
            run, floor = self._by_shape(shapes, known)
        gaps = [self.launch_gap * priced.launches for priced in self.of(ops)]
        return Estimate(ops, self, run, ops.launches * np.array(gaps), floor)

    def predict_both(self, dense: OpTrace, pruned: OpTrace) -> tuple[Estimate, Estimate]:
        """Price two traces; ops that run alike in both are priced once, and short traces in one go.

        Raises
        ------
        UnknownNameError, MissingValueError
            As `predict`.
        """
        if pruned.sweep_shape != dense.sweep_shape or int(np.prod(pruned.shape)) > SMALL:
            before = self.predict(dense)
            return before, self.predict(pruned, known=before)
        same, partner = twins(dense, pruned)
        new = ~same.reshape(-1, len(pruned)).all(axis=0)
        both = self.predict(dense.concat(pruned.select(new)))
        place = np.where(new, len(dense) + np.cumsum(new) - 1, partner)
        gap = np.array([self.launch_gap * priced.launches for priced in self.of(pruned)])
        before = Estimate(dense, self, *(part[..., : len(dense)] for part in (both.run, both.gap, both.floor)))
        return before, Estimate(pruned, self, both.run[..., place], pruned.launches * gap, both.floor[..., place])

    def _by_shape(self, shapes: Shapes, known: Estimate | None) -> tuple[FloatArray, FloatArray]:
        """Return run and floor of each op, each distinct shape priced once."""
        runs, floors = ([known.run.reshape(-1)], [known.floor.reshape(-1)]) if known else ([], [])
        for ops in shapes.groups:
            # The roofline of the data sheet is a promise that no kernel beats; see bounds.py.
            floor = roofline(ops, self.hardware)
            run = np.maximum(self.priced(ops.kernel[0], ops.dtype[0]).model.latency(ops, self.hardware), floor)
            for prices, seconds in ((runs, run), (floors, floor)):
                prices.append(np.broadcast_to(seconds, ops.shape).reshape(-1))
        return np.concatenate(runs)[shapes.index], np.concatenate(floors)[shapes.index]

    def _one_by_one(
        self, trace: OpTrace, shape: tuple[int, ...], known: Estimate | None
    ) -> tuple[FloatArray, FloatArray]:
        """Return run and floor of each op of a small trace, in as few calls as possible."""
        run, floor = np.empty(shape), np.empty(shape)
        new: NDArray[np.bool_] = np.ones(len(trace), dtype=bool)
        if known is not None:
            same, partner = twins(known.trace, trace)
            new = np.asarray(~same.reshape(-1, len(trace)).all(axis=0))
            old = np.flatnonzero(~new)
            run[..., old] = known.run[..., np.array(partner)[old]]
        floor[...] = roofline(trace, self.hardware)
        members: dict[tuple[int, str], list[int]] = {}
        models = [priced.model for priced in self.of(trace)]
        for i in np.flatnonzero(new).tolist():
            members.setdefault((id(models[i]), trace.dtype[i]), []).append(i)
        for index in members.values():
            ops = trace if len(index) == len(trace) else trace.select(index)
            run[..., index] = models[index[0]].latency(ops, self.hardware)
        return np.maximum(run, floor, out=run), floor

    def of(self, trace: OpTrace) -> list[Priced]:
        """Return what prices each op of a trace."""
        return [self.priced(key, dtype) for key, dtype in zip(trace.kernel, trace.dtype, strict=True)]


@dataclass(frozen=True, eq=False, repr=False)
class Estimate:
    """Predicted time of one forward pass, op by op.

    Attributes
    ----------
    trace : OpTrace
    cost_model : CostModel
    run : ndarray, shape (*sweep, op)
        Time of one run of each op [s].
    gap : ndarray, shape broadcasts to (*sweep, op)
        Launch gaps around one run of each op [s].
    floor : ndarray, shape (*sweep, op)
        Roofline of one run of each op [s].
    """

    trace: OpTrace
    cost_model: CostModel
    run: FloatArray = field(repr=False)
    gap: FloatArray = field(repr=False)
    floor: FloatArray = field(repr=False)

    @property
    def hardware(self) -> HardwareProfile:
        """The GPU."""
        return self.cost_model.hardware

    @property
    def stack(self) -> str:
        """Name of the software stack."""
        return self.cost_model.stack

    @cached_property
    def seconds(self) -> FloatArray:
        """Time of each op in the whole pass, runs and gaps, shape (*sweep, op) [s]."""
        each = np.asarray(self.run + self.gap)  # of the full shape, since run is
        each *= self.trace.count
        return each

    @property
    def roofline_seconds(self) -> FloatArray:
        """Roofline time of each op in the whole pass, shape (*sweep, op) [s]."""
        return np.asarray(self.trace.count * self.floor)

    @property
    def latency(self) -> FloatArray | float:
        """Time of the forward pass, shape (*sweep); a float for a single workload [s]."""
        return scalar(self.total.copy())

    @property
    def roofline(self) -> FloatArray | float:
        """Roofline time of the same trace: no kernels, however good, are faster; shape (*sweep) [s]."""
        return scalar(self.least.copy())

    @cached_property
    def total(self) -> FloatArray:
        """Time of the forward pass as a read-only array, shape (*sweep) [s]."""
        return sealed(np.asarray(self.seconds.sum(axis=-1)))

    @cached_property
    def least(self) -> FloatArray:
        """Roofline time of the forward pass as a read-only array, shape (*sweep) [s]."""
        return sealed(np.asarray(self.roofline_seconds.sum(axis=-1)))

    @property
    def interval(self) -> tuple[FloatArray | float, FloatArray | float]:
        """90 % prediction interval of the latency, never below the roofline, each of shape (*sweep) [s]."""
        low, high = self.errors.band()
        total = self.total
        return scalar(np.maximum(total * np.exp(low), np.minimum(self.least, total))), scalar(total * np.exp(high))

    @cached_property
    def errors(self) -> Errors:
        """Error bands of the ops, weighted by their share of the time."""
        priced = self._priced
        total = self.total[..., None]
        share = self.seconds / np.where(total > 0, total, 1.0)
        return Errors(
            share, [p.spread for p in priced], [p.group or k for p, k in zip(priced, self.trace.kernel, strict=True)]
        )

    @property
    def provenance(self) -> tuple[Provenance, ...]:
        """What the time of each op rests on, one per op."""
        return tuple(priced.provenance for priced in self._priced)

    @cached_property
    def _priced(self) -> list[Priced]:
        return self.cost_model.of(self.trace)

    @property
    def bound(self) -> np.ndarray:
        """What limits each op, shape (*sweep, op): "compute", "memory" or "overhead"."""
        compute = compute_time(self.trace, self.hardware)
        ceiling = np.where(compute >= self.floor, "compute", "memory")
        busy = self.floor >= OVERHEAD_SHARE * (self.run + self.gap)
        return np.where(busy, ceiling, "overhead")

    def to_frame(self) -> pd.DataFrame:
        """Return one row per op (and per sweep point, in C order) with units in the column names."""
        import pandas as pd

        shape = self.trace.shape
        points = int(np.prod(shape[:-1], dtype=int))
        flat: dict[str, Any] = {"point": np.repeat(np.arange(points), shape[-1])} if len(shape) > 1 else {}
        for name in ("name", "block", "kernel", "dtype"):
            flat[name] = np.tile(np.array(getattr(self.trace, name)), points)
        numbers = {name: getattr(self.trace, name) for name in ("count", "batch", "m", "n", "k")}
        total = self.seconds.sum(axis=-1, keepdims=True)
        numbers |= {
            "flops": self.trace.flops * self.trace.count,
            "bytes": self.trace.traffic * self.trace.count,
            "intensity_flop_per_byte": self.trace.flops / np.where(self.trace.traffic > 0, self.trace.traffic, np.inf),
            "seconds": self.seconds,
            "share": self.seconds / np.where(total > 0, total, 1.0),
            "roofline_seconds": self.roofline_seconds,
        }
        flat |= {name: np.broadcast_to(column, shape).reshape(-1) for name, column in numbers.items()}
        flat["bound"] = np.broadcast_to(self.bound, shape).reshape(-1)
        flat["provenance"] = np.tile(np.array(self.provenance), points)
        return pd.DataFrame(flat)

    def __repr__(self) -> str:
        head = f"<Estimate {self.stack} on {self.hardware.name}"
        if self.trace.sweep_shape:
            return f"{head}, sweep {self.trace.sweep_shape}>"
        low, high = self.interval
        return f"{head}: {self.latency * 1e3:.4g} ms [{low * 1e3:.4g}, {high * 1e3:.4g}]>"

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(repr(self)[1:-1])}</p>{self.to_frame().to_html(index=False)}"


def scalar(values: FloatArray) -> FloatArray | float:
    """Return a float for a 0-d array: scalars in, scalar out."""
    return float(values) if values.ndim == 0 else values
