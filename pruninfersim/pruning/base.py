"""Ratios (one, per layer, per kind of block) and the helpers that every pruning method uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pruninfersim._arrays import FloatArray, checked
from pruninfersim.errors import InvalidInputError
from pruninfersim.models import ModelConfig
from pruninfersim.trace import Applied, OpTrace

#: Names of the GEMMs that carry the prunable weights of a layer.
LINEAR = ("q", "k", "v", "o", "gate", "up", "down", "qkv", "gate_up")
#: Norm that opens a block; it goes when the sub-layer goes.
OPENER = {"attention": "attn_norm", "mlp": "mlp_norm"}
#: Slack of a rounding, so that 0.1 + 0.2 layers do not become one more or one less.
TINY = 1e-9


@dataclass(frozen=True, eq=False)
class PerLayer:
    """One sparsity per layer.

    Attributes
    ----------
    values : array_like, shape (*sweep, layer)
        Fraction removed in each layer [1].

    >>> PerLayer([0.0, 0.5]).values
    [0.0, 0.5]
    """

    values: ArrayLike


@dataclass(frozen=True, eq=False)
class PerBlock:
    """One sparsity for the attention blocks and one for the MLP blocks.

    Attributes
    ----------
    attention, mlp : array_like, shape (*sweep)
        Fraction removed [1].

    >>> PerBlock(mlp=0.5).attention
    0.0
    """

    attention: ArrayLike = 0.0
    mlp: ArrayLike = 0.0


Ratio: TypeAlias = ArrayLike | PerLayer | PerBlock


def check_ratio(name: str, ratio: Ratio) -> None:
    """Raise InvalidInputError unless every value of `ratio` is in [0, 1).

    >>> check_ratio("sparsity", PerBlock(attention=1.0))
    Traceback (most recent call last):
    pruninfersim.errors.InvalidInputError: sparsity of attention must be in [0, 1); got 1
    """
    if isinstance(ratio, PerBlock):
        checked(f"{name} of attention", ratio.attention, minimum=0, below=1)
        checked(f"{name} of mlp", ratio.mlp, minimum=0, below=1)
    elif isinstance(ratio, PerLayer):
        checked(f"{name} per layer", ratio.values, minimum=0, below=1)
    else:
        checked(name, ratio, minimum=0, below=1)


def model_of(trace: OpTrace) -> ModelConfig:
    """Return the model behind a trace.

    Raises
    ------
    InvalidInputError
        If the trace was built by hand without a model.
    """
    if trace.model is None:
        raise InvalidInputError("this method needs the model behind the trace; build it with trace(model, workload)")
    return trace.model


def check_sweep(trace: OpTrace, ratio: Ratio) -> None:
    """Raise InvalidInputError unless the sweep axes of `ratio` and of the trace broadcast together."""
    try:
        np.broadcast_shapes(asked_mean(ratio).shape, trace.sweep_shape)
    except ValueError:
        raise InvalidInputError(
            f"sparsity and a workload of sweep shape {trace.sweep_shape} do not broadcast; "
            "give arrays of equal shape, or add axes with [:, None]"
        ) from None


def with_ratio(trace: OpTrace, ratio: Ratio, *, outside: bool = False) -> tuple[OpTrace, FloatArray]:
    """Return the trace, unfolded if the ratio is per layer, and the sparsity of each op, shape (*sweep, op) [1].

    Parameters
    ----------
    trace : OpTrace
    ratio : Ratio
    outside : bool
        Ops outside the layers get 0, or with True the ratio that their neighbouring layer has (methods that change
        the hidden size: embedding follows the first layer, head the last).

    Raises
    ------
    InvalidInputError
        If there is not one ratio per layer, a per-block ratio is given to a method that crosses blocks, or the sweep
        axes do not broadcast.
    """
    inside = np.array([block in ("attention", "mlp") for block in trace.block])
    if isinstance(ratio, PerLayer):
        values = np.asarray(ratio.values, dtype=np.float64)
        layers = model_of(trace).num_layers
        if values.ndim == 0 or values.shape[-1] != layers:
            raise InvalidInputError(
                f"need one ratio per layer, last axis {layers}; got shape {values.shape}. "
                "Give PerLayer an array with one entry per layer of the model"
            )
        check_sweep(trace, ratio)
        trace = trace.unfold()
        rows = [row[0] if row else (0 if block == "embedding" else layers - 1) for row, block in _places(trace)]
        sparsity = values[..., rows]
        inside = np.array([bool(row) for row in trace.layers])
    elif isinstance(ratio, PerBlock):
        if outside:
            raise InvalidInputError("this method changes the width between blocks: give one ratio, or PerLayer")
        check_sweep(trace, ratio)
        attention, mlp = np.asarray(ratio.attention, float)[..., None], np.asarray(ratio.mlp, float)[..., None]
        sparsity = np.where(trace.mask(blocks=["attention"]), attention, np.where(trace.mask(blocks=["mlp"]), mlp, 0.0))
    else:
        check_sweep(trace, ratio)
        sparsity = np.asarray(ratio, dtype=np.float64)[..., None] * np.ones(len(trace))
    return trace, sparsity if outside else np.where(inside, sparsity, 0.0)


def _places(trace: OpTrace) -> list[tuple[tuple[int, ...], str]]:
    return list(zip(trace.layers, trace.block, strict=True))


def targets(trace: OpTrace, method: str, roles: Sequence[str], kernels: Sequence[str]) -> NDArray[np.bool_]:
    """Return the ops of some roles that a method is to change, shape (op,) of bool.

    Raises
    ------
    InvalidInputError
        If another method has already given one of these roles a kernel that this method cannot change: it would be
        passed over in silence.
    """
    named = np.isin(trace.roles, list(roles))
    ready = named & trace.mask(kernels=kernels)
    taken = sorted({trace.kernel[i] for i in np.flatnonzero(named & ~ready)})
    if taken:
        raise InvalidInputError(
            f"{method} changes {' and '.join(kernels)} ops, but some run as {', '.join(taken)} already: no kernel does "
            f"both. Apply {method} first, or to a trace without the other method"
        )
    return np.asarray(ready)


def round_up(values: ArrayLike, multiple: float, limit: ArrayLike = np.inf) -> FloatArray:
    """Round widths up to a multiple, at least one multiple and never above `limit`.

    >>> round_up([1638.4, 3.0], 16, limit=[4096, 8]).tolist()
    [1648.0, 8.0]
    """
    rounded = np.ceil(np.asarray(values) / multiple - TINY) * multiple
    return np.asarray(np.minimum(np.maximum(rounded, multiple), limit), dtype=np.float64)


def asked_mean(ratio: Ratio) -> FloatArray:
    """Return the ratio asked for as one number per sweep point, the mean over layers or blocks."""
    if isinstance(ratio, PerLayer):
        return np.asarray(np.mean(np.asarray(ratio.values, dtype=np.float64), axis=-1))
    if isinstance(ratio, PerBlock):
        return (np.asarray(ratio.attention, dtype=np.float64) + np.asarray(ratio.mlp, dtype=np.float64)) / 2.0
    return np.asarray(ratio, dtype=np.float64)


def record(trace: OpTrace, method: str, ratio: Ratio, achieved: dict[str, Any]) -> OpTrace:
    """Return the trace with a note of what a method was asked to remove and what it removed after rounding."""
    reached = {block: np.asarray(value, dtype=np.float64) for block, value in achieved.items()}
    return replace(trace, applied=(*trace.applied, Applied(method, asked_mean(ratio), reached)))


def mean_where(values: FloatArray, which: np.ndarray, weights: FloatArray) -> FloatArray:
    """Return the weighted mean of per-op values over the chosen ops, shape (*sweep); 0 where nothing is chosen."""
    weight = np.where(which, weights, 0.0)
    total = weight.sum(axis=-1)
    mean = (values * weight).sum(axis=-1) / np.where(total > 0, total, 1.0)
    return np.asarray(mean)


def overhead_rows(trace: OpTrace, block: str, *, wide: Sequence[str] = (), **columns: Any) -> list[dict[str, Any]]:
    """Return rows of work that a method adds to every layer that still has `block`.

    Each row takes its count, layers and element sizes from a norm that opens the block, so that it goes when the
    block goes; an unfolded trace gets one row per layer. The columns named in `wide` are the hidden size there.

    Raises
    ------
    InvalidInputError
        If the trace has no such block.
    """
    index = [i for i, name in enumerate(trace.name) if name == OPENER[block]]
    if not index:
        raise InvalidInputError(f"the trace has no {block} block left to prune; apply this method before removing it")
    return [
        {
            "block": block,
            "layers": trace.layers[i],
            "dtype": trace.dtype[i],
            "count": trace.count[..., i],
            "m": trace.m[..., i],
            "a_bytes": trace.a_bytes[..., i],
            "b_bytes": trace.a_bytes[..., i],
            "out_bytes": trace.out_bytes[..., i],
        }
        | dict.fromkeys(wide, trace.k[..., i])
        | columns
        for i in index
    ]
