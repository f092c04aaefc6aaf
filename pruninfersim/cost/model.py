"""Cost model: which kernel model prices which ops of a trace, and the estimate that comes out."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pruninfersim._util.arrays import FloatArray, somewhere
from pruninfersim._util.doors import door, doors
from pruninfersim.cost.clock import Chain, Clock, EngineClock, Graph
from pruninfersim.cost.distinct import Shapes
from pruninfersim.cost.estimate import Estimate, Timed
from pruninfersim.cost.serving import Serving
from pruninfersim.errors import InvalidInputError, UnknownNameError, shown
from pruninfersim.hardware import HardwareProfile
from pruninfersim.kernels.base import KernelModel, Quantised, ceilings
from pruninfersim.kernels.evidence import EVERYWHERE, EXACT, Domain, Spread
from pruninfersim.trace import SMALL, OpTrace, twins
from pruninfersim.workload import Logits

#: What an estimate rests on: a definition, a fit on this GPU and inside its domain, or a fit used elsewhere.
Provenance = Literal["roofline", "calibrated", "extrapolated"]
#: Trace -> trace: what a software stack launches for the ops of a model. Lowering a lowered trace changes nothing.
Lowering = Callable[[OpTrace], OpTrace]


@door
def as_it_is(trace: OpTrace) -> OpTrace:
    """Lower nothing: every op of the trace is one kernel."""
    return trace


@doors
@dataclass(frozen=True, repr=False)
class Priced:
    """A kernel model with what is known about its error.

    Attributes
    ----------
    model : KernelModel
    provenance : {"roofline", "calibrated", "extrapolated"}
    spread : Spread
        90 % band of its predictions.
    group : str
        Kernels of one group share the common part of their error.
    source : str
        Data set, paper or definition behind it.
    launches : float
        Launches of one run, as often as the trace has it, that are not part of the model's own time: those that the
        clock of the stack counts.
    domain : Domain
        Where the spread holds. Outside, ops are extrapolated and their band is wider.
    note : str
        What to say of a pass that spends much of its time in it; empty if nothing.
    """

    model: KernelModel
    provenance: Provenance
    spread: Spread = EXACT
    group: str = ""
    source: str = ""
    launches: float = 1.0
    domain: Domain = EVERYWHERE
    note: str = ""

    def __post_init__(self) -> None:
        for name, kind in (("spread", Spread), ("domain", Domain)):
            if not isinstance(getattr(self, name), kind):
                raise InvalidInputError(
                    f"{name} of a Priced must be a {kind.__name__}; got {shown(getattr(self, name))}"
                )

    def __repr__(self) -> str:
        band = f"{np.expm1(self.spread.low):+.0%} to {np.expm1(self.spread.high):+.0%}"
        return f"<Priced {type(self.model).__name__}, {self.provenance}, 90 % band {band}>"


@dataclass(frozen=True)
class Protocol:
    """How speedups of a stack are measured, which is what an estimate of one is compared with.

    Attributes
    ----------
    logits : {"last", "all"}
        Prompt tokens that pass the LM head where nobody says.
    repeatability : float
        Half-width at 90 % of ln of two measurements of the same speedup [1]; part of every interval of a speedup.
    mask_draws : int
        Random token masks over which a measurement of dynamic pruning averages; 0 if over very many.
    """

    logits: Logits = "last"
    repeatability: float = 0.0
    mask_draws: int = 0


@doors
@dataclass(frozen=True, repr=False)
class CostModel:
    """A value: what a software stack on one GPU launches, what each kernel costs, and what passes between them.

    Attributes
    ----------
    stack : str
        Label of the software stack.
    hardware : HardwareProfile
        Of a module of several dies, one die: what a kernel can use.
    kernels : mapping of str to Priced
        By kernel key, or by ``"key/dtype"`` where a dtype has a kernel of its own.
    default : Priced, optional
        Prices every key that `kernels` lacks; without it such ops are refused.
    lower : callable
        Trace -> trace: what the stack launches for the ops of a model.
    clock : Clock
        How the waits between kernels add up.
    protocol : Protocol
    calibrated : callable, optional
        Calibrations -> this stack built with them; see `with_calibrations`.
    serving : Serving
        What the software does with memory and with requests, beside steps.
    gpus : int
        Devices that share a pass; times and memory are those of one of them.
    """

    stack: str
    hardware: HardwareProfile
    kernels: Mapping[str, Priced]
    default: Priced | None = None
    lower: Lowering = as_it_is
    clock: Clock = field(default_factory=Graph)
    protocol: Protocol = field(default_factory=Protocol)
    calibrated: Callable[[Sequence[Any]], CostModel] | None = None
    serving: Serving = field(default_factory=Serving)
    gpus: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.hardware, HardwareProfile):
            raise InvalidInputError(f"hardware of a CostModel must be a HardwareProfile; got {shown(self.hardware)}")
        object.__setattr__(self, "hardware", self.hardware.device)

    def priced(self, key: str, dtype: str) -> Priced:
        """Return what prices a kernel key at a dtype: the entry ``"key/dtype"`` if there is one, else ``"key"``.

        Raises
        ------
        UnknownNameError
            If the stack has no kernel for it.
        """
        found = self.kernels.get(f"{key}/{dtype}") or self.kernels.get(key) or self.default
        if found is None:
            raise UnknownNameError(
                f"stack {self.stack!r} has no kernel for {key}. It has: {', '.join(sorted(self.kernels))}. Add one "
                "with CostModel.with_kernel"
            )
        return found

    def with_kernel(self, key: str, priced: Priced | Any) -> CostModel:
        """Return a cost model in which `key` is priced by another kernel, and whose label says so.

        Parameters
        ----------
        key : str
            A kernel key, or ``"key/dtype"``. Other keys keep their kernels, even if one like the old one is inside of
            them; `with_calibrations` replaces it everywhere.
        priced : Priced or Calibration

        Raises
        ------
        InvalidInputError
            If `priced` is neither.
        """
        made = priced.priced() if hasattr(priced, "priced") else priced
        if not isinstance(made, Priced):
            raise InvalidInputError(
                f"with_kernel needs a Priced or a Calibration for {shown(key)}; got {type(priced).__name__}. Wrap a "
                "kernel model of your own: Priced(model, 'extrapolated', Spread(-0.1, 0.1))"
            )
        label = f", own {key}"
        return replace(
            self,
            stack=self.stack if label in self.stack else self.stack + label,
            kernels={**self.kernels, key: made},
            calibrated=partial(_with_kernel, self.calibrated, key, made) if self.calibrated else None,
        )

    def with_calibrations(self, *calibrations: Any) -> CostModel:
        """Return this stack built from calibrations of one's own, in every kernel that one of them is part of.

        Kernels that `with_kernel` has put in stay.

        Raises
        ------
        InvalidInputError
            If the stack is not built from calibrations, or one is of another GPU.
        """
        if self.calibrated is None:
            raise InvalidInputError(f"stack {self.stack!r} is not built from calibrations; the stack 'vendor' is")
        return self.calibrated(calibrations)

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
            A trace, or the distinct shapes of a lowered one, which all cost models that lower alike can price.
        known : Estimate, optional
            Of this cost model, for instance of the dense trace: ops that run just as there are not priced again.

        Raises
        ------
        UnknownNameError
            If the trace has an op that no kernel of the stack can run.
        MissingValueError
            If the profile lacks a figure that an op needs (for instance an fp8 peak).
        """
        ops = trace.trace if isinstance(trace, Shapes) else self.lower(trace)
        if known is not None and known.cost_model is not self:
            known = None
        if math.prod(ops.shape) <= SMALL:
            return self._estimate(ops, [self._all_of(ops, *self._one_by_one(ops, known))])
        before = known.trace if known else None
        shapes = trace if isinstance(trace, Shapes) and trace.known is before else Shapes.of(ops, before)
        return self._estimate(ops, self._by_shape(shapes, known))

    def predict_both(self, dense: OpTrace, pruned: OpTrace) -> tuple[Estimate, Estimate]:
        """Price two traces; ops that run alike in both are priced once, and short traces in one go.

        Raises
        ------
        UnknownNameError, MissingValueError
            As `predict`.
        """
        dense, pruned = self.lower(dense), self.lower(pruned)
        if pruned.sweep_shape != dense.sweep_shape or math.prod(pruned.shape) > SMALL:
            before = self._estimate(dense, self._by_shape(Shapes.of(dense), None))
            return before, self._estimate(pruned, self._by_shape(Shapes.of(pruned, dense), before))
        same, partner = twins(dense, pruned)
        new = somewhere(~same)
        both = self._one_by_one(dense.concat(pruned.select(new)), None)
        place = np.where(new, len(dense) + np.cumsum(new) - 1, partner)
        first, second = ([_at(column, ops) for column in both] for ops in (slice(0, len(dense)), place))
        return self._estimate(dense, [self._all_of(dense, *first)]), self._estimate(
            pruned, [self._all_of(pruned, *second)]
        )

    def _estimate(self, ops: OpTrace, timed: Sequence[Timed]) -> Estimate:
        """Return the estimate of ops whose gaps hold launches so far."""
        for some in timed:
            if not np.isfinite(some.run).all():
                bad = somewhere(~np.isfinite(some.run))
                raise InvalidInputError(
                    f"the time of {', '.join(ops.name[i] for i in some.which[bad])} is not a finite number; a column "
                    "of the trace, or the kernel model that prices it, is wrong"
                )
        if isinstance(self.clock, Graph):  # the wait of an op depends on its own launches only
            waits = (self.clock.gaps(some.run, some.count, some.gap) for some in timed)
            return Estimate(ops, self, tuple(replace(some, gap=gap) for some, gap in zip(timed, waits, strict=True)))
        every = Estimate(ops, self, tuple(timed))
        chain: Chain | None = None
        if isinstance(self.clock, EngineClock):
            gaps, chain = self.clock.step(ops, every.run, every.gap)
        else:
            gaps = self.clock.gaps(every.run, ops.count, every.gap)
        whole = self._all_of(ops, every.run, every.floor, every.limit, every.widening)
        return Estimate(ops, self, (replace(whole, gap=gaps),), chain)

    def _all_of(self, ops: OpTrace, *times: FloatArray) -> Timed:
        """Return run, floor, limit and widening of all ops of a trace, with launches in place of gaps."""
        run, floor, limit, widening = times
        launches = ops.launches * np.array([priced.launches for priced in self.of(ops)])
        return Timed(np.arange(len(ops)), ops.count, run, launches, floor, limit, widening)

    def _by_shape(self, shapes: Shapes, known: Estimate | None) -> list[Timed]:
        """Return the times of ops, each distinct shape priced once, with launches in place of gaps."""
        timed = []
        for (which, ops), distinct, place in shapes.groups:
            by = self.priced(ops.kernel[0], ops.dtype[0])
            # Nothing beats the roofline at the highest clock; see speedups.py.
            floor, limit = ceilings(distinct, self.hardware)
            run = np.maximum(by.model.latency(distinct, self.hardware), limit)
            each = [
                np.broadcast_to(values, distinct.shape).reshape(-1)[place] if values.ndim else values
                for values in (run, floor, floor if limit is floor else limit, by.domain.widening(distinct))
            ]
            timed.append(Timed(which, ops.count, each[0], ops.launches * by.launches, *each[1:]))
        if shapes.old is not None and known is not None:
            which, ops = shapes.old
            columns = (known.run, known.floor, known.limit, known.widening)
            times = [_at(column, shapes.partner) for column in columns]
            launches = ops.launches * np.array([priced.launches for priced in self.of(ops)])
            timed.append(Timed(which, ops.count, times[0], launches, *times[1:]))
        return timed

    def _one_by_one(self, trace: OpTrace, known: Estimate | None) -> tuple[FloatArray, ...]:
        """Return run, floor, limit and widening of each op of a small trace, in as few calls as possible."""
        run, widening = np.empty(trace.shape), np.ones(trace.shape)
        new: NDArray[np.bool_] = np.ones(len(trace), dtype=bool)
        if known is not None:
            same, partner = twins(known.trace, trace)
            new = somewhere(~same)
            old = np.flatnonzero(~new)
            run[..., old] = known.run[..., np.array(partner)[old]]
        floor, limit = (np.broadcast_to(side, trace.shape) for side in ceilings(trace, self.hardware))
        members: dict[tuple[int, int, str], list[int]] = {}
        priced = self.of(trace)
        for i, each in enumerate(priced):
            members.setdefault((id(each.model), id(each.domain), trace.dtype[i]), []).append(i)
        for index in members.values():
            ops = trace if len(index) == len(trace) else trace.select(index)
            widening[..., index] = priced[index[0]].domain.widening(ops)
            if new[index].any():
                run[..., index] = priced[index[0]].model.latency(ops, self.hardware)
        return np.maximum(run, limit, out=run), floor, limit, np.ones(()) if (widening == 1.0).all() else widening

    def of(self, trace: OpTrace) -> list[Priced]:
        """Return what prices each op of a trace.

        Raises
        ------
        UnknownNameError
            If the trace has an op that no kernel of the stack can run; the message names all of them.
        """
        keys = list(zip(trace.kernel, trace.dtype, strict=True))
        distinct = set(keys)
        known = self.kernels if self.default is None else None
        missing = sorted({k for k, d in distinct if known is not None and k not in known and f"{k}/{d}" not in known})
        if missing:
            raise UnknownNameError(
                f"stack {self.stack!r} has no kernel for {', '.join(missing)}. It has: "
                f"{', '.join(sorted(self.kernels))}. Add one with CostModel.with_kernel"
            )
        priced = {each: self.priced(*each) for each in distinct}
        return [priced[each] for each in keys]

    def table(self) -> list[tuple[str, str, str, str]]:
        """Return one row per kernel: key, kernel model, provenance, 90 % band of measured over predicted.

        >>> from pruninfersim import hardware, stacks
        >>> stacks.get("vendor", hardware.get("h100-sxm")).table()[0][0]
        'act'
        """
        named = sorted(self.kernels.items()) + ([("any other", self.default)] if self.default else [])
        return [
            (
                key,
                type(priced.model).__name__,
                priced.provenance,
                f"{np.expm1(priced.spread.low):+.0%} to {np.expm1(priced.spread.high):+.0%}",
            )
            for key, priced in named
        ]

    def __repr__(self) -> str:
        kinds = sorted({priced.provenance for priced in self.kernels.values()})
        size = len(self.kernels)
        return f"<CostModel {self.stack} on {self.hardware.name}: {size} kernels, {' and '.join(kinds) or 'none'}>"

    def __str__(self) -> str:
        alike: dict[tuple[str, ...], list[str]] = {}
        for key, *rest in self.table():
            if "/" not in key:  # narrow formats have the names of the others
                alike.setdefault(tuple(rest), []).append(key)
        rows = [("model", "provenance", "90 % band"), *alike]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        names = ["kernels", *(", ".join(keys) for keys in alike.values())]
        lines = ["  ".join([*map(str.ljust, row, widths), name]) for row, name in zip(rows, names, strict=True)]
        return "\n".join([repr(self)[1:-1], *lines])

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def _with_kernel(
    build: Callable[[Sequence[Any]], CostModel], key: str, priced: Priced, calibrations: Sequence[Any]
) -> CostModel:
    """Build a stack from calibrations, and put a kernel in that was put in before."""
    return build(calibrations).with_kernel(key, priced)


def _at(part: FloatArray, ops: Any) -> FloatArray:
    """Return some ops of an array whose last axis is the ops, or the array itself if it has no axes."""
    return part[..., ops] if part.ndim else part
