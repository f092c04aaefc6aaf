"""Dense against pruned: `compare` for traces, `speedup` for names."""

from __future__ import annotations

import html
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pruninfersim import hardware as hardware_registry
from pruninfersim import models, pruning, stacks
from pruninfersim._arrays import FloatArray
from pruninfersim.bounds import bound_speedup, claimed_speedup, estimated_speedup, flops_speedup, ideal_speedup
from pruninfersim.cost import CostModel, Estimate, scalar
from pruninfersim.errors import InvalidInputError, ProvenanceWarning
from pruninfersim.hardware import HardwareProfile
from pruninfersim.models import ModelConfig
from pruninfersim.pruning import Ratio
from pruninfersim.trace import OpTrace, PruningMethod, trace, twins
from pruninfersim.uncertainty import ratio_half_width
from pruninfersim.workload import Logits, Workload

#: Half of the central 90 % of a normal distribution, in standard deviations.
NORMAL_90 = 1.645
#: Share of the time from which the provenance of an op counts for a comparison.
MATERIAL_SHARE = 0.05
#: Difference of shares from which two sides rest on different evidence even if both have some of each kind.
UNEQUAL_SHARE = 0.25


@dataclass(frozen=True, eq=False, repr=False)
class Speedup:
    """How much faster the pruned model is, four ways, with a 90 % interval.

    Attributes
    ----------
    flops, ideal, estimated, bound : float or ndarray, shape (*sweep)
        See `pruninfersim.bounds` [1].
    interval : tuple of two
        90 % prediction interval of ``estimated``; never above ``bound`` [1].
    dense, pruned : Estimate
        Both sides, op by op.
    notes : tuple of str
        What to know before quoting the numbers (sides that rest on different evidence).
    """

    flops: FloatArray | float
    ideal: FloatArray | float
    estimated: FloatArray | float
    bound: FloatArray | float
    interval: tuple[FloatArray | float, FloatArray | float]
    dense: Estimate = field(repr=False)
    pruned: Estimate = field(repr=False)
    notes: tuple[str, ...] = ()

    @property
    def claim(self) -> FloatArray | float:
        """1 / (1 - s) of the sparsities asked for: the "upper bound" of arXiv 2606.09080, shape (*sweep) [1]."""
        return scalar(claimed_speedup(self.pruned.trace))

    @property
    def achieved(self) -> dict[str, dict[str, FloatArray]]:
        """Sparsity reached after rounding, by method and kind of block, each of shape (*sweep) [1]."""
        return {applied.method: applied.achieved for applied in self.pruned.trace.applied}

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers of a single comparison as plain floats, ready for JSON."""
        asked = {a.method: float(a.asked) for a in self.pruned.trace.applied}
        return {
            "stack": self.dense.stack,
            "hardware": self.dense.hardware.name,
            "sparsity": asked,
            "achieved": {m: {b: float(v) for b, v in blocks.items()} for m, blocks in self.achieved.items()},
            "claim": self.claim,
            "flops": self.flops,
            "ideal": self.ideal,
            "estimated": self.estimated,
            "interval": list(self.interval),
            "bound": self.bound,
            "dense_seconds": self.dense.latency,
            "pruned_seconds": self.pruned.latency,
            "notes": list(self.notes),
        }

    def __repr__(self) -> str:
        if np.ndim(self.estimated):
            return f"<Speedup {self.dense.stack} on {self.dense.hardware.name}, sweep {np.shape(self.estimated)}>"
        low, high = self.interval
        return (
            f"<Speedup {self.dense.stack} on {self.dense.hardware.name}: estimated {self.estimated:.2f} "
            f"[{low:.2f}, {high:.2f}], bound {self.bound:.2f}, ideal {self.ideal:.2f}, flops {self.flops:.2f}>"
        )

    def _repr_html_(self) -> str:
        if np.ndim(self.estimated):
            return f"<p>{html.escape(repr(self))}</p>"
        low, high = self.interval
        cells = {
            "estimated": f"{self.estimated:.3f} ({low:.3f} to {high:.3f})",
            "bound": f"{self.bound:.3f}",
            "ideal": f"{self.ideal:.3f}",
            "FLOPs": f"{self.flops:.3f}",
            "1/(1-s)": f"{self.claim:.3f}",
            "dense": f"{np.asarray(self.dense.latency) * 1e3:.4g} ms",
            "pruned": f"{np.asarray(self.pruned.latency) * 1e3:.4g} ms",
        }
        rows = "".join(f"<tr><th>{html.escape(k)}</th><td>{v}</td></tr>" for k, v in cells.items())
        title = html.escape(f"Speedup on {self.dense.hardware.title}, stack {self.dense.stack}")
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self.notes)
        return f"<table><caption>{title}</caption>{rows}</table>{notes}"


def estimate(trace: OpTrace, *, hardware: HardwareProfile | str, stack: str | CostModel = "vendor") -> Estimate:
    """Predict the time of one forward pass, op by op.

    Parameters
    ----------
    trace : OpTrace
    hardware : HardwareProfile or str
    stack : str or CostModel
        "vendor", "paper", "ideal", or a cost model of one's own.

    Raises
    ------
    UnknownNameError
        If the GPU or the stack is not known.
    MissingValueError
        If the profile lacks a figure that an op needs.

    >>> from pruninfersim import Workload, trace
    >>> step = estimate(trace("llama-3.1-8b", Workload.decode()), hardware="h100-sxm", stack="ideal")
    >>> round(step.latency * 1e3, 2)
    4.52
    """
    gpu = hardware_registry.get(hardware)
    return stacks.get(stack, gpu).predict(trace)


def compare(
    dense: OpTrace, pruned: OpTrace, *, hardware: HardwareProfile | str, stack: str | CostModel = "vendor"
) -> Speedup:
    """Return the speedup of one trace over another on a GPU.

    Warns
    -----
    ProvenanceWarning
        If ops of more than 5 % of the time rest on evidence that the other side does not have, or 25 % more of the
        time than on the other side.

    >>> from pruninfersim import Workload, pruning, trace
    >>> dense = trace("llama-3.1-8b", Workload.decode())
    >>> compare(dense, dense.prune(pruning.StaticDepth(0.5)), hardware="h100-sxm", stack="ideal").estimated
    1.87...
    """
    cost_model = stacks.get(stack, hardware_registry.get(hardware))
    result = compare_estimates(*cost_model.predict_both(dense, pruned))
    for note in result.notes:
        warnings.warn(note, ProvenanceWarning, stacklevel=2)
    return result


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
        notes=_provenance_notes(before, after),
    )


def estimated_interval(before: Estimate, after: Estimate) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return the estimated speedup, its 90 % interval (low, high) and its bound, each of shape (*sweep) [1]."""
    estimated, bound = estimated_speedup(before, after), bound_speedup(before, after)
    half = ratio_half_width(before.errors, after.errors, *twins(before.trace, after.trace))
    noise = after.cost_model.repeatability
    half = np.sqrt(half**2 + noise**2 + mask_draw_half_width(after) ** 2)
    return estimated, estimated * np.exp(-half), np.minimum(estimated * np.exp(half), bound), bound


def mask_draw_half_width(step: Estimate) -> FloatArray:
    """Return the half-width at 90 % of what random masks do to a measured decode step, in log units, shape (*sweep).

    A protocol that draws token masks when it captures a CUDA graph measures a draw: each token-wise sub-layer runs or
    not, with the probability that some token is active (``b_reads``). Zero where the stack averages over steps.
    """
    draws, ops = step.cost_model.mask_draws, step.trace
    gemms = ops.mask(kernels=["token_gemm"])
    if not draws or not gemms.any():
        return np.zeros(ops.sweep_shape)
    active = np.where(gemms, ops.b_reads, 1.0)
    total = step.seconds.sum(axis=-1)
    variance: FloatArray = np.zeros(())
    for block in ("attention", "mlp"):
        ran = gemms & ops.mask(blocks=[block])
        if not ran.any():
            continue
        whole = np.where(ran, step.seconds / active, 0.0).sum(axis=-1) / total
        chance = active[..., ran].mean(axis=-1)
        layers = np.where(ran, ops.count, 0.0).max(axis=-1)
        variance = variance + chance * (1.0 - chance) * whole**2 / (layers * draws)
    return np.asarray(NORMAL_90 * np.sqrt(variance))


def _provenance_notes(dense: Estimate, pruned: Estimate) -> tuple[str, ...]:
    """Say so when a side rests on evidence that the other side does not have, or has much less of."""

    def weights(side: Estimate) -> dict[str, float]:
        share = side.errors.share.reshape(-1, len(side.trace)).max(axis=0)
        weight: dict[str, float] = {}
        for kind, part in zip(side.provenance, share, strict=True):
            weight[kind] = weight.get(kind, 0.0) + float(part)
        return weight

    before, after = weights(dense), weights(pruned)
    kinds = [sorted(kind for kind, part in side.items() if part >= MATERIAL_SHARE) for side in (before, after)]
    if kinds[0] != kinds[1]:
        return (
            f"the dense side rests on {' and '.join(kinds[0])} kernels and the pruned side on "
            f"{' and '.join(kinds[1])} ones: their ratio may be biased, see to_frame() of both sides",
        )
    return tuple(
        f"{before[kind]:.0%} of the dense side and {after[kind]:.0%} of the pruned side rest on {kind} kernels: their "
        "ratio may be biased, see to_frame() of both sides"
        for kind in kinds[0]
        if kind != "calibrated" and abs(before[kind] - after[kind]) > UNEQUAL_SHARE
    )


def speedup(
    *,
    model: str | ModelConfig,
    hardware: str | HardwareProfile,
    method: str | PruningMethod,
    sparsity: Ratio | None = None,
    phase: str = "prefill",
    batch: ArrayLike = 1,
    context: ArrayLike = 1024,
    stack: str | CostModel = "vendor",
    dtype: str | None = None,
    logits: Logits | None = None,
) -> Speedup:
    """Return the speedup of one pruning method, by names.

    Parameters
    ----------
    model, hardware, method : str or object
    sparsity : Ratio, optional
        Fraction removed [1]; needed where the method is a name.
    phase : {"prefill", "decode"}
    batch, context : array_like
        Sequences; prompt tokens in prefill, keys attended to in decode. Arrays are sweep axes.
    stack : str or CostModel
        "paper" follows the protocol of arXiv 2606.09080: the LM head runs on all prefill tokens.
    dtype : str, optional
        Precision of the linear layers; default is the model's own.
    logits : {"last", "all"}, optional
        Tokens that pass the LM head in prefill; default "all" for stack "paper", else "last".

    Raises
    ------
    UnknownNameError, InvalidInputError, MissingValueError
        For unknown names, values out of range, figures that a profile lacks.

    Warns
    -----
    ProvenanceWarning
        As in `compare`.

    >>> speedup(model="llama-3.1-8b", hardware="h100-sxm", method="static-depth", sparsity=0.5, stack="ideal").flops
    1.99...
    """
    workload = Workload.of(phase, batch, context, logits or stacks.default_logits(stack))
    dense = trace(models.get(model), workload, dtype=dtype)
    return compare(dense, dense.prune(_method(method, sparsity)), hardware=hardware, stack=stack)


def _method(method: str | PruningMethod, sparsity: Ratio | None) -> PruningMethod:
    if not isinstance(method, str):
        if sparsity is not None:
            raise InvalidInputError("give the sparsity inside the method object, or name the method; not both")
        return method
    if sparsity is None:
        raise InvalidInputError(f"method {method!r} needs a sparsity, for instance sparsity=0.5")
    return pruning.get(method, sparsity)
