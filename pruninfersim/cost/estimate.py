"""What a cost model makes of a trace: the time of each op, its error band, and what it rests on."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pruninfersim._util.arrays import FloatArray, ReadOnly, first_last, real, sealed
from pruninfersim._util.doors import doors
from pruninfersim._util.lazy import drawn
from pruninfersim.cost.clock import Chain
from pruninfersim.cost.experts import routing_notes
from pruninfersim.cost.memory import fits, memory_notes
from pruninfersim.cost.uncertainty import Errors
from pruninfersim.errors import InvalidInputError
from pruninfersim.hardware import HardwareProfile
from pruninfersim.kernels.base import compute_time
from pruninfersim.trace import OpTrace, alike

if TYPE_CHECKING:
    import pandas as pd

    from pruninfersim.cost.model import CostModel, Priced

#: An op whose roofline is below this share of its time is bound by overhead, not by compute or memory.
OVERHEAD_SHARE = 0.5
#: Share of a pass from which the evidence of ops is worth a note.
MATERIAL_SHARE = 0.05


@dataclass(frozen=True, eq=False, repr=False)
class Timed(ReadOnly):
    """Times of some ops of a trace; all arrays broadcast to (*sweep, op of those).

    Attributes
    ----------
    which : ndarray of int, shape (op of those,)
        Their places in the trace.
    count : ndarray
        Runs of each in the pass.
    run, gap, floor, limit, widening : ndarray
        As `Estimate` has them for all ops.
    """

    which: NDArray[np.intp]
    count: FloatArray
    run: FloatArray
    gap: FloatArray
    floor: FloatArray
    limit: FloatArray
    widening: FloatArray

    @property
    def seconds(self) -> FloatArray:
        """Time of each op in the pass, runs and gaps [s]."""
        return (self.run + self.gap) * self.count

    def each(self, change: Callable[[FloatArray], FloatArray]) -> Timed:
        """Return the same with every column changed alike."""
        columns = (self.count, self.run, self.gap, self.floor, self.limit, self.widening)
        return Timed(self.which, *map(change, columns))


@doors
@dataclass(frozen=True, eq=False, repr=False)
class Estimate(ReadOnly):
    """Predicted time of one forward pass, op by op.

    Attributes
    ----------
    trace : OpTrace
        As the stack lowers it: what its software launches.
    cost_model : CostModel
    timed : tuple of Timed
        Times of the ops, those together that vary along the same axes of a sweep.
    chain : Chain, optional
        What the host of a serving engine does beside the GPU; None for a stack that is kernels only.
    """

    trace: OpTrace
    cost_model: CostModel
    timed: tuple[Timed, ...] = field(repr=False)
    chain: Chain | None = field(default=None, repr=False)

    @cached_property
    def run(self) -> FloatArray:
        """Time of one run of each op, shape (*sweep, op) [s]."""
        return self._whole("run")

    @cached_property
    def gap(self) -> FloatArray:
        """Wait around one run of each op, as the clock of the stack has it, shape (*sweep, op) [s]."""
        return self._whole("gap")

    @cached_property
    def floor(self) -> FloatArray:
        """Roofline of one run of each op, shape (*sweep, op) [s]."""
        return self._whole("floor")

    @cached_property
    def limit(self) -> FloatArray:
        """Time of one run that no kernel beats: the roofline at the highest clock, shape (*sweep, op) [s]."""
        return self._whole("limit")

    @cached_property
    def widening(self) -> FloatArray:
        """Factor on the error band of each op, shape (*sweep, op), or () if none is above 1 [1].

        Above 1 an op is outside of the domain that its kernel was fitted in.
        """
        return self._whole("widening") if any(some.widening.ndim for some in self.timed) else sealed(np.ones(()))

    def _whole(self, name: str) -> FloatArray:
        """Return a column of all ops, shape (*sweep, op)."""
        if len(self.timed) == 1:
            return sealed(np.asarray(np.broadcast_to(getattr(self.timed[0], name), self.trace.shape)))
        out = first_last(np.empty((len(self.trace), *self.trace.sweep_shape)))
        for some in self.timed:
            out[..., some.which] = getattr(some, name)
        return sealed(out)

    def _summed(self, values: Callable[[Timed], FloatArray]) -> FloatArray:
        """Return what runs of all ops add up to, as a read-only array, shape (*sweep)."""
        sums = (np.einsum("...o,...o->...", values(some), some.count) for some in self.timed)
        return np.broadcast_to(sum(sums, np.zeros(())), self.trace.sweep_shape)

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
        return self._whole("seconds")

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
        """Roofline time of the same trace, at the rates of the data sheet, shape (*sweep) [s]."""
        return scalar(self.roofline_total.copy())

    @cached_property
    def total(self) -> FloatArray:
        """Time of the forward pass as a read-only array, shape (*sweep) [s]."""
        return self._summed(
            lambda some: some.run + some.gap
        )  # in the order of the bounds, so that no rounding beats them

    @cached_property
    def roofline_total(self) -> FloatArray:
        """Roofline time of the forward pass as a read-only array, shape (*sweep) [s]."""
        return self._summed(lambda some: some.floor)

    @cached_property
    def least(self) -> FloatArray:
        """Time that no kernels and no fusion beat, as a read-only array, shape (*sweep) [s].

        The products at the highest clock of the card, with their operands and results through HBM once; elementwise
        work takes nothing, since it can be fused into the product before or after it.
        """
        multiplies = self.trace.gemms > 0
        return self._summed(lambda some: some.limit * multiplies[..., some.which])

    @property
    def fits(self) -> NDArray[np.bool_] | bool:
        """Whether weights and KV cache fit into the memory of the GPU, shape (*sweep)."""
        inside = fits(self.trace, self.hardware)
        return inside if inside.ndim else bool(inside)

    @property
    def interval(self) -> tuple[FloatArray | float, FloatArray | float]:
        """90 % prediction interval of the latency, never below `least`, each of shape (*sweep) [s]."""
        low, high = self.errors.band()
        total, busy = self.total, self.busy
        if self.chain is not None:  # what users measure of an engine scatters, beside the errors of its kernels
            noise = self.cost_model.protocol.repeatability
            low, high = -np.hypot(low, noise), np.hypot(high, noise)
        shortest, longest = busy * np.exp(low), busy * np.exp(high)
        if self.chain is not None:
            shortest = np.maximum(shortest, self.chain.seconds * self.chain.low)
            longest = np.maximum(longest, self.chain.seconds * self.chain.high)
        return scalar(np.maximum(shortest, np.minimum(self.least, total))), scalar(longest)

    @cached_property
    def busy(self) -> FloatArray:
        """Time of the pass without what the GPU waits for a host that is behind, shape (*sweep) [s]."""
        return self.total if self.chain is None else sealed(self.with_runs(self.run, waiting=False))

    def with_runs(self, run: FloatArray, *, waiting: bool = True) -> FloatArray:
        """Return the time of the pass if one run of each op took `run`, shape (*sweep) [s].

        Parameters
        ----------
        run : ndarray, shape (*sweep, op)
            [s]
        waiting : bool
            Whether the GPU waits for a host that is behind.
        """
        run = real("run", run)
        if np.isnan(run).any() or np.shape(run)[-1:] not in ((), (1,), (len(self.trace),)):
            raise InvalidInputError(f"run needs a time for each of {len(self.trace)} ops; got shape {np.shape(run)}")
        gap = self.gap if self.chain is None else self.gap - self.chain.wait
        each = run + gap
        busy = np.asarray(np.einsum("...o,...o->...", each, np.broadcast_to(self.trace.count, each.shape)))
        return busy if self.chain is None or not waiting else np.maximum(busy, self.chain.seconds)

    @property
    def share(self) -> FloatArray:
        """Share of each op in the time of the pass, shape (*sweep, op) [1]."""
        total = self.total[..., None]
        return np.asarray(self.seconds / np.where(total > 0, total, 1.0))

    @property
    def errors(self) -> Errors:
        """Error bands of the ops, weighted by their share of the time and widened outside of their domain.

        Made anew each time: kept, it would hold the estimate that holds it, and with it the memory of its arrays.
        """
        priced = self.priced
        groups = [p.group or k for p, k in zip(priced, self.trace.kernel, strict=True)]
        return Errors(lambda: self._uncertain, self.busy, [p.spread for p in priced], groups, alike(self.trace))

    @cached_property
    def _uncertain(self) -> FloatArray:
        """Return the time of each op that has the error of a kernel, times the factor on its band."""
        seconds = self.seconds
        if self.chain is not None:  # what waits for the host has none
            seconds = (self.run + self.gap - self.chain.wait) * self.trace.count
        return seconds * self.widening if self.widening.ndim else seconds

    @property
    def provenance(self) -> NDArray[np.str_]:
        """What the time of each op rests on, shape (op,), or (*sweep, op) if that differs along the sweep."""
        known = np.array([priced.provenance for priced in self.priced], dtype="U12")
        fitted = (known == "calibrated") & (self.widening > 1.0)
        return np.where(fitted, "extrapolated", known) if fitted.any() else known

    @cached_property
    def priced(self) -> list[Priced]:
        """What prices each op."""
        return self.cost_model.of(self.trace)

    def evidence(self) -> dict[str, float]:
        """Return the largest share of a pass that rests on each kind of evidence.

        >>> from pruninfersim import Workload, estimate, trace
        >>> estimate(trace("llama-3.1-8b", Workload.decode()), hardware="h100-sxm", stack="ideal").evidence()
        {'roofline': 1.0}
        """
        kinds = self.provenance
        return {
            str(kind): round(float(np.where(kinds == kind, self.share, 0.0).sum(axis=-1).max()), 12)
            for kind in dict.fromkeys(kinds.reshape(-1).tolist())
        }

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know before quoting the time: does it fit, and which ops are outside of what was timed, how far."""
        before = memory_notes(self.trace, self.hardware) + routing_notes(self.trace)
        return before + self._told() + self._outside() + self._host_bound()

    def _host_bound(self) -> tuple[str, ...]:
        """Say so where the host, not the GPU, sets the time of a step."""
        if self.chain is None or not bool(np.any(self.chain.seconds > self.busy)):
            return ()
        where = int(np.argmax(self.chain.seconds / self.busy))
        chain, busy, launches = (
            float(np.broadcast_to(side, self.total.shape).reshape(-1)[where])
            for side in (self.chain.seconds, self.busy, self.chain.launches)
        )
        return (
            f"host-bound: the host takes {chain * 1e3:.3g} ms to issue {launches:.0f} kernels, and the GPU would be "
            f"done in {busy * 1e3:.3g} ms. Width and 2:4 leave the number of launches alone and cannot help; fewer "
            "layers, a CUDA graph, a larger batch or a longer prompt can",
        )

    def _told(self) -> tuple[str, ...]:
        """Say what the kernels that take much of the pass have to say."""
        said: dict[str, list[int]] = {}
        for i, priced in enumerate(self.priced):
            if priced.note:
                said.setdefault(priced.note, []).append(i)
        share = self.share.reshape(-1, len(self.trace)).max(axis=0) if said else np.zeros(0)
        return tuple(
            f"{', '.join(dict.fromkeys(self.trace.name[i] for i in index))}: {note}"
            for note, index in said.items()
            if float(share[index].sum()) >= MATERIAL_SHARE
        )

    def _outside(self) -> tuple[str, ...]:
        if not self.widening.ndim:
            return ()
        size = len(self.trace)
        share = self.share.reshape(-1, size).max(axis=0)
        outside = (np.broadcast_to(self.widening, self.trace.shape).reshape(-1, size) > 1.0).any(axis=0)
        members: dict[int, list[int]] = {}
        for i in np.flatnonzero(outside & (share >= MATERIAL_SHARE / size)).tolist():
            members.setdefault(id(self.priced[i].domain), []).append(i)
        lines: dict[str, list[str]] = {}
        for index in members.values():
            if float(share[index].sum()) >= MATERIAL_SHARE:
                for found in self.priced[index[0]].domain.outside(self.trace.select(index)):
                    lines.setdefault(str(found), []).extend(self.trace.name[index[i]] for i in found.ops)
        return tuple(
            f"{', '.join(dict.fromkeys(names))}: {text}, so that the time is extrapolated"
            for text, names in lines.items()
        )

    @property
    def bound(self) -> np.ndarray:
        """What limits each op, shape (*sweep, op): "compute", "memory" or "overhead"."""
        compute = compute_time(self.trace, self.hardware)
        ceiling = np.where(compute >= self.floor, "compute", "memory")
        busy = self.floor >= OVERHEAD_SHARE * (self.run + self.gap)
        return np.where(busy, ceiling, "overhead")

    def at(self, index: tuple[int, ...], shape: tuple[int, ...] | None = None) -> Estimate:
        """Return one point of a sweep, by its place on each axis; `shape` as in `OpTrace.at`."""
        sweep = self.trace.sweep_shape if shape is None else shape

        def point(some: Timed) -> Timed:
            full = (*sweep, len(some.which))
            return some.each(lambda x: sealed(np.array(np.broadcast_to(x, full)[index])) if x.ndim else x)

        timed = tuple(point(some) for some in self.timed)
        return replace(self, trace=self.trace.at(index, sweep), timed=timed)

    def plot(self, kind: str | None = None, **options: Any) -> Any:
        """Return a plotly figure of a single pass: "breakdown" (the default) or "roofline"."""
        return drawn(self, kind, options)

    def to_frame(self) -> pd.DataFrame:
        """Return one row per op (and per sweep point, in C order) with units in the column names."""
        import pandas as pd

        shape = self.trace.shape
        points = int(np.prod(shape[:-1], dtype=int))
        flat: dict[str, Any] = {"point": np.repeat(np.arange(points), shape[-1])} if len(shape) > 1 else {}
        for name in ("name", "block", "kernel", "dtype"):
            flat[name] = np.tile(np.array(getattr(self.trace, name)), points)
        numbers = {name: getattr(self.trace, name) for name in ("count", "batch", "m", "n", "k")}
        numbers |= {
            "flops": self.trace.flops * self.trace.count,
            "bytes": self.trace.traffic * self.trace.count,
            "intensity_flop_per_byte": self.trace.flops / np.where(self.trace.traffic > 0, self.trace.traffic, np.inf),
            "seconds": self.seconds,
            "share": self.share,
            "roofline_seconds": self.roofline_seconds,
        }
        flat |= {name: np.broadcast_to(column, shape).reshape(-1) for name, column in numbers.items()}
        flat["bound"] = np.broadcast_to(self.bound, shape).reshape(-1)
        flat["provenance"] = np.broadcast_to(self.provenance, shape).reshape(-1)
        return pd.DataFrame(flat)

    def __repr__(self) -> str:
        of = "".join(f"{part} " for part in ([self.trace.model.name] if self.trace.model else []))
        methods = " + ".join(applied.method for applied in self.trace.applied)
        head = f"<Estimate of {of}on {self.hardware.name}, {self.stack}{f', {methods}' if methods else ''}"
        if self.trace.sweep_shape:
            return f"{head}, sweep {self.trace.sweep_shape}>"
        low, high = self.interval
        return f"{head}: {self.latency * 1e3:.4g} ms [{low * 1e3:.4g}, {high * 1e3:.4g}]>"

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(repr(self)[1:-1])}</p>{self.to_frame().to_html(index=False)}"


def scalar(values: FloatArray) -> FloatArray | float:
    """Return a float for a 0-d array: scalars in, scalar out."""
    return float(values) if values.ndim == 0 else values
