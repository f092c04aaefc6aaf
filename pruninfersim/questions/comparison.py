"""Dense against pruned: the four speedups of two estimates, with their interval and what to know about them."""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from pruninfersim._util.arrays import Answer, FloatArray, ends, sealed
from pruninfersim._util.doors import doors
from pruninfersim._util.lazy import drawn
from pruninfersim.cost import Estimate, scalar
from pruninfersim.cost.clock import Chain
from pruninfersim.cost.estimate import MATERIAL_SHARE
from pruninfersim.cost.speedups import (
    bound_speedup,
    claimed_speedup,
    estimated_speedup,
    flops_speedup,
    ideal_speedup,
)
from pruninfersim.cost.uncertainty import ratio_half_width
from pruninfersim.errors import InvalidInputError
from pruninfersim.hardware import HardwareProfile
from pruninfersim.models import ModelConfig
from pruninfersim.questions.availability import availability_note
from pruninfersim.questions.table import case_of, dtype_of, methods_of, plain, printed, rows
from pruninfersim.trace import layer_weights, twins
from pruninfersim.workload import Workload

if TYPE_CHECKING:
    import pandas as pd

    from pruninfersim.questions.explain import Explanation

#: Half of the central 90 % of a normal distribution, in standard deviations.
NORMAL_90 = 1.645
#: Difference of shares from which two sides rest on different evidence even if both have some of each kind.
UNEQUAL_SHARE = 0.25
#: Share of both sides from which evidence that both lack is worth a note.
MOSTLY = 0.5


@doors
@dataclass(frozen=True, eq=False, repr=False)
class Speedup(Answer):
    """How much faster the pruned model is, four ways, with a 90 % interval.

    Attributes
    ----------
    flops, ideal, estimated, bound : float or ndarray, shape (*sweep)
        See `pruninfersim.cost.speedups` [1].
    interval : tuple of two
        90 % prediction interval of ``estimated``; never above ``bound`` [1].
    dense, pruned : Estimate
        Both sides, op by op.
    notes : tuple of str
        What to know before quoting the numbers: sides that rest on different evidence, ops outside of what was timed.
    """

    flops: FloatArray | float
    ideal: FloatArray | float
    estimated: FloatArray | float
    bound: FloatArray | float
    interval: tuple[FloatArray | float, FloatArray | float]
    dense: Estimate = field(repr=False)
    pruned: Estimate = field(repr=False)

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What to know before quoting a number: evidence, domain, memory, length, host; worked out when asked for."""
        before, after = self.dense, self.pruned
        found = [
            *_work_note(before, after),
            *evidence_notes(before, after),
            *_extrapolated_note(before, after),
            *_experts_note(before, after),
            *before.notes,
            *after.notes,
        ]
        return tuple(dict.fromkeys(found))

    @cached_property
    def headroom(self) -> FloatArray | float:
        """Speedup if the ops that the method changes ran at their roofline and all else as it does, shape (*sweep) [1].

        This, and not the distance to `bound`, says whether a kernel is worth writing: no kernel for the changed ops
        makes the rest any faster.
        """
        after = self.pruned
        untouched = twins(self.dense.trace, after.trace)[0]
        perfect = np.where(untouched, after.run, np.minimum(after.floor, after.run))
        return scalar(sealed(np.asarray(self.dense.total / after.with_runs(perfect))))

    @property
    def claim(self) -> FloatArray | float | None:
        """1 / (1 - s) of the sparsities asked for: the "upper bound" of arXiv 2606.09080, shape (*sweep) [1].

        None where no method was applied, as for two traces of one's own.
        """
        claimed = claimed_speedup(self.pruned.trace)
        return None if claimed is None else scalar(claimed)

    @property
    def model(self) -> ModelConfig | None:
        """The dense model."""
        return self.dense.trace.model

    @property
    def workload(self) -> Workload | None:
        """What both sides do."""
        return self.dense.trace.workload

    @property
    def method(self) -> str:
        """Names of the methods in order, joined by " + "."""
        return " + ".join(applied.method for applied in self.pruned.trace.applied)

    @property
    def hardware(self) -> HardwareProfile:
        """The GPU."""
        return self.dense.hardware

    @property
    def stack(self) -> str:
        """Label of the software stack."""
        return self.dense.stack

    @property
    def achieved(self) -> dict[str, dict[str, FloatArray]]:
        """Sparsity reached after rounding, by method and kind of block, each of shape (*sweep) [1]."""
        return {applied.method: applied.achieved for applied in self.pruned.trace.applied}

    @property
    def dtype(self) -> str:
        """Precision of the linear layers."""
        return dtype_of(self.dense.trace)

    @property
    def question(self) -> str:
        """What was asked, as one line: methods, model, GPU, workload, software, precision."""
        methods = methods_of(self.pruned.trace) or (self.pruned.trace.model.name if self.pruned.trace.model else "")
        case = case_of(self.dense.trace, self.hardware, self.stack)
        if methods and not self.pruned.trace.applied:
            return f"{methods} against {case}"
        return f"{methods}, {case}" if methods else case

    @property
    def runs_today(self) -> tuple[str, ...]:
        """Which software is known to run the methods, and which is known not to; see `pruninfersim.availability`."""
        return tuple(note for each in self.pruned.trace.applied if (note := availability_note(each.method)))

    def at(self, *index: int) -> Speedup:
        """Return one point of a sweep, by its place on each axis.

        Raises
        ------
        InvalidInputError
            If there is no such point.

        >>> from pruninfersim import speedup
        >>> both = speedup(model="llama-3.1-8b", hardware="h100-sxm", method="low-rank", sparsity=[0.25, 0.5],
        ...                stack="ideal")
        >>> round(float(both.at(1).estimated / both.estimated[1]), 12)
        1.0
        """
        shape = np.shape(self.estimated)
        if len(index) != len(shape) or any(not -n <= i < n for i, n in zip(index, shape, strict=False)):
            raise InvalidInputError(f"no point {index} in a sweep of shape {shape}; give one whole number per axis")
        return compare_estimates(self.dense.at(index, shape), self.pruned.at(index, shape))

    def explain(self) -> Explanation:
        """Return the waterfall from the claim to the estimate; see `pruninfersim.explain`."""
        from pruninfersim.questions.explain import explain

        return explain(self)

    def plot(self, kind: str | None = None, **options: Any) -> Any:
        """Return a plotly figure of the result.

        Parameters
        ----------
        kind : {"waterfall", "breakdown", "roofline", "bars", "curve", "heatmap"}, optional
            Default is the waterfall of a single comparison, the curve of a sweep along one axis, and the heat map of
            one along two.
        **options
            Of the figure; see `pruninfersim.plots.plot`.
        """
        return drawn(self, kind, options)

    def to_frame(self) -> pd.DataFrame:
        """Return one row per point of the sweep, with the columns of `pruninfersim.sweep`, and the headroom."""
        import pandas as pd

        return pd.DataFrame(rows(self))

    def to_dict(self) -> dict[str, Any]:
        """Return question and answer as plain values, ready for JSON; those of a sweep are nested lists."""
        workload = self.workload
        return plain(  # type: ignore[no-any-return]
            {
                "model": self.model.name if self.model else None,
                "hardware": self.hardware.name,
                "method": self.method,
                "sparsity": {a.method: a.asked for a in self.pruned.trace.applied},
                "phase": workload.phase if workload else None,
                "batch": workload.batch if workload else None,
                "context": workload.context if workload else None,
                "stack": self.stack,
                "dtype": self.dtype,
                "achieved": self.achieved,
                "claim": self.claim,
                "flops": self.flops,
                "ideal": self.ideal,
                "estimated": self.estimated,
                "interval": list(self.interval),
                "headroom": self.headroom,
                "bound": self.bound,
                "fits": self.pruned.fits,
                "dense_fits": self.dense.fits,
                "dense_seconds": self.dense.latency,
                "pruned_seconds": self.pruned.latency,
                "notes": list(self.notes),
                "runs_today": list(self.runs_today),
            }
        )

    def __repr__(self) -> str:
        head = f"<Speedup of {self.question}"
        if np.ndim(self.estimated):
            values = np.asarray(self.estimated)
            return f"{head}: sweep {values.shape}, estimated {values.min():.2f} to {values.max():.2f}>"
        low, high = self.interval
        return (
            f"{head}: estimated {self.estimated:.2f} [{low:.2f}, {high:.2f}], headroom {self.headroom:.2f}, "
            f"bound {self.bound:.2f}, ideal {self.ideal:.2f}, flops {self.flops:.2f}>"
        )

    def __str__(self) -> str:
        notes = [*(f"note: {note}" for note in self.notes), *(f"runs today: {note}" for note in self.runs_today)]
        if not np.ndim(self.estimated):
            return "\n".join([repr(self), *notes])
        return "\n".join([f"Speedup of {self.question}", printed(rows(self)), *notes])

    def _repr_html_(self) -> str:
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in (*self.notes, *self.runs_today))
        title = html.escape(f"Speedup of {self.question}")
        if np.ndim(self.estimated):
            return f"<p>{title}</p><pre>{html.escape(printed(rows(self)))}</pre>{notes}"
        low, high = self.interval
        cells = {
            "estimated": f"{self.estimated:.3f} ({low:.3f} to {high:.3f})",
            "headroom": f"{self.headroom:.3f}",
            "bound": f"{self.bound:.3f}",
            "ideal": f"{self.ideal:.3f}",
            "FLOPs": f"{self.flops:.3f}",
            "1/(1-s)": "none" if self.claim is None else f"{self.claim:.3f}",
            "dense": f"{np.asarray(self.dense.latency) * 1e3:.4g} ms",
            "pruned": f"{np.asarray(self.pruned.latency) * 1e3:.4g} ms",
        }
        lines = "".join(f"<tr><th>{html.escape(k)}</th><td>{v}</td></tr>" for k, v in cells.items())
        return f"<table><caption>{title}</caption>{lines}</table>{notes}"


def compare_estimates(before: Estimate, after: Estimate) -> Speedup:
    """Return the speedup of one estimate over another, without warning: the notes say what to know.

    Parameters
    ----------
    before, after : Estimate
        Dense and pruned, of the same stack and GPU; their sweep shapes broadcast.
    """
    estimated, low, high, bound = estimated_interval(before, after)
    return Speedup(
        flops=scalar(flops_speedup(before.trace, after.trace)),
        ideal=scalar(ideal_speedup(before, after)),
        estimated=scalar(estimated),
        bound=scalar(bound),
        interval=(scalar(low), scalar(high)),
        dense=before,
        pruned=after,
    )


def _work_note(before: Estimate, after: Estimate) -> list[str]:
    """Say so where the sides do not do the same work: their ratio is then no speedup of the model."""
    works = [work for side in (before, after) if (work := side.trace.workload) is not None]
    said = dict.fromkeys(f"{w.phase}, batch {ends(w.batch)}, context {ends(w.context)}" for w in works)
    return [f"the sides do different work: {' against '.join(said)}"] if len(said) > 1 else []


def _experts_note(before: Estimate, after: Estimate) -> list[str]:
    """Say so where a method leaves routed experts as they are, though its claim counts their weights."""
    old, new = (
        np.where(side.trace.mask(kernels=["moe"]), layer_weights(side.trace), 0.0).sum(axis=-1)
        for side in (before, after)
    )
    if not after.trace.applied or not np.any(old) or np.any(np.asarray(new) < np.asarray(old)):
        return []
    share = float(np.max(old / layer_weights(before.trace).sum(axis=-1)))
    methods = " and ".join(dict.fromkeys(applied.method for applied in after.trace.applied))
    return [
        f"{methods} leaves the routed experts as they are: {100 * share:.0f} % of the layers' weights, which the claim "
        "counts as pruned"
    ]


def estimated_interval(before: Estimate, after: Estimate) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return the estimated speedup, its 90 % interval (low, high) and its bound, each of shape (*sweep) [1]."""
    estimated, bound = estimated_speedup(before, after), bound_speedup(before, after)
    half = ratio_half_width(before.errors, after.errors, *twins(before.trace, after.trace))
    noise = np.sqrt(after.cost_model.protocol.repeatability**2 + mask_draw_half_width(after) ** 2)
    if before.chain is None or after.chain is None:
        half = np.sqrt(half**2 + noise**2)
        return estimated, estimated * np.exp(-half), np.minimum(estimated * np.exp(half), bound), bound
    ends = _host_corners(before, before.chain, after, after.chain, half)
    low, high = np.minimum(ends.min(axis=0), estimated), np.maximum(ends.max(axis=0), estimated)
    waits = (before.chain.seconds > before.busy) | (after.chain.seconds > after.busy)
    noise = np.where(waits, np.maximum(noise, after.chain.repeatability), noise)
    return estimated, low * np.exp(-noise), np.minimum(high * np.exp(noise), bound), bound


def _host_corners(before: Estimate, first: Chain, after: Estimate, second: Chain, half: FloatArray) -> FloatArray:
    """Return speedups at the ends of what is known of kernels and host, shape (4, *sweep) [1].

    Both sides run on one host: with f its speed over the assumed one, relative to the common error of the kernels, the
    ratio max(G, f H) / max(G', f H') is monotone in f, so that its ends are enough.
    """
    level = after.errors.band()
    out = []
    for factor in (second.low * np.exp(-level[1]), second.high * np.exp(-level[0])):
        for side in (-half, half):
            top = np.maximum(before.busy, factor * first.seconds)
            out.append(top / np.maximum(after.busy * np.exp(side), factor * second.seconds))
    return np.array(out)


def mask_draw_half_width(step: Estimate) -> FloatArray:
    """Return the half-width at 90 % of what random masks do to a measured decode step, in log units, shape (*sweep).

    A protocol that draws token masks when it captures a CUDA graph measures a draw: each token-wise sub-layer runs or
    not, with the probability that some token is active (``b_reads``). Zero where the stack averages over steps.
    """
    draws, ops = step.cost_model.protocol.mask_draws, step.trace
    gemms = ops.mask(kernels=["token_gemm"])
    if not draws or not gemms.any():
        return np.zeros(ops.sweep_shape)
    active = np.where(gemms, ops.b_reads, 1.0)
    # One run of each op if it is active, as a share of the step; and the share of its layers that have it at all.
    runs = (step.run + step.gap) / (active * step.total[..., None])
    there = ops.count / [max(1, len(layers)) for layers in ops.layers]
    variance: FloatArray = np.zeros(())
    for block in ("attention", "mlp"):
        ran = gemms & ops.mask(blocks=[block])
        rows = list(zip(ops.layers, ran.tolist(), strict=True))
        known = sorted({layer for layers, is_in in rows if is_in for layer in layers})
        if not known:
            continue
        member = np.array([[is_in and layer in layers for layer in known] for layers, is_in in rows])
        # Layers of the same ops are alike, whether folded into one row or not.
        members, alike_layers = np.unique(member.astype(float), axis=1, return_counts=True)
        mean = members / np.maximum(members.sum(axis=0), 1.0)
        chance = np.broadcast_to(active, step.run.shape) @ mean
        layers_there = np.broadcast_to(there, step.run.shape) @ mean * alike_layers
        variance = variance + (layers_there * chance * (1.0 - chance) * (runs @ members) ** 2 / draws).sum(axis=-1)
    return np.asarray(NORMAL_90 * np.sqrt(variance))


def evidence_notes(dense: Estimate, pruned: Estimate) -> tuple[str, ...]:
    """Say so when a side rests on evidence that the other lacks, or has much less of: their ratio may be biased."""
    before, after = dense.evidence(), pruned.evidence()
    kinds = [sorted(kind for kind, part in side.items() if part >= MATERIAL_SHARE) for side in (before, after)]
    if kinds[0] != kinds[1]:
        return (
            f"the dense side rests on {' and '.join(kinds[0])} kernels and the pruned side on "
            f"{' and '.join(kinds[1])} ones: their ratio may be biased; the list of ops shows which",
        )
    return tuple(
        f"{before[kind]:.0%} of the dense side and {after[kind]:.0%} of the pruned side rest on {kind} kernels: their "
        "ratio may be biased; the list of ops shows which"
        for kind in kinds[0]
        if kind != "calibrated" and abs(before[kind] - after[kind]) > UNEQUAL_SHARE
    )


def _extrapolated_note(dense: Estimate, pruned: Estimate) -> tuple[str, ...]:
    """Say so when most of both sides is extrapolated alike: the ratio is not biased, but nobody timed these kernels."""
    shares = [side.evidence().get("extrapolated", 0.0) for side in (dense, pruned)]
    if min(shares) < MOSTLY:
        return ()
    return (
        f"{shares[0]:.0%} of the dense side and {shares[1]:.0%} of the pruned side rest on extrapolated kernels, "
        f"fitted on other GPUs than {dense.hardware.name} or on other shapes; the interval says how well that works",
    )
