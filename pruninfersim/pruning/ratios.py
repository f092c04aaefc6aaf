"""How much to remove: one ratio, one per layer, per kind of block, per role, and these inside of each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pruninfersim._util.arrays import FloatArray, checked
from pruninfersim._util.doors import doors
from pruninfersim.errors import InvalidInputError
from pruninfersim.models import ModelConfig
from pruninfersim.trace import OpTrace, layer_weights

#: A sparsity is a fraction removed: below 1.
LARGEST = float(np.nextafter(1.0, 0.0))


class Axis(np.ndarray[Any, np.dtype[np.float64]]):
    """Sparsities that are points of a sweep, said in so many words: needed where there are as many as layers.

    An array like any other to a method that knows nothing of it.

    Parameters
    ----------
    values : array_like, shape (*sweep)
        Fraction removed [1].

    >>> Axis([0.0, 0.5]).values
    array([0. , 0.5])
    """

    def __new__(cls, values: ArrayLike) -> Axis:
        """Return an array of this kind."""
        return np.array(checked("Axis", values)).view(cls)

    @property
    def values(self) -> FloatArray:
        """The numbers as a plain array."""
        return np.asarray(self)


@doors
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


@doors
@dataclass(frozen=True, eq=False)
class PerBlock:
    """One sparsity for the attention blocks and one for the MLP blocks; each may be one per layer.

    Attributes
    ----------
    attention, mlp : Ratio
        Fraction removed [1].

    >>> PerBlock(mlp=0.5).attention
    0.0
    >>> from pruninfersim import Workload, pruning, trace
    >>> mixed = PerBlock(attention=0.25, mlp=PerLayer([0.5] * 16))
    >>> pruned = trace("llama-3.2-1b", Workload.decode()).prune(pruning.StaticWidth(mixed))
    >>> {block: float(share) for block, share in pruned.applied[0].achieved.items()}
    {'attention': 0.25, 'mlp': 0.5}
    """

    attention: Ratio = 0.0
    mlp: Ratio = 0.0


@doors
@dataclass(frozen=True, eq=False)
class PerRole:
    """One sparsity per linear layer of a block, for methods that change each weight by itself (low-rank, 2:4).

    Attributes
    ----------
    q, k, v, o, gate, up, down : Ratio
        Fraction removed [1]; each may be one per layer.

    >>> PerRole(down=0.5).down
    0.5
    """

    q: Ratio = 0.0
    k: Ratio = 0.0
    v: Ratio = 0.0
    o: Ratio = 0.0
    gate: Ratio = 0.0
    up: Ratio = 0.0
    down: Ratio = 0.0


Ratio: TypeAlias = "ArrayLike | Axis | PerLayer | PerBlock | PerRole"


def parts(ratio: Ratio, name: str = "sparsity") -> Iterator[tuple[str, Any]]:
    """Yield the innermost ratios with a name for each: plain values, `Axis` and `PerLayer`.

    >>> [label for label, _ in parts(PerBlock(attention=0.5, mlp=PerLayer([0.1])))]
    ['sparsity of attention', 'sparsity of mlp per layer']
    """
    if isinstance(ratio, PerBlock | PerRole):
        for field in fields(ratio):
            yield from parts(getattr(ratio, field.name), f"{name} of {field.name}")
    else:
        yield (f"{name} per layer" if isinstance(ratio, PerLayer) else name), ratio


def values_of(part: Any) -> Any:
    """Return the numbers of an innermost ratio."""
    return part.values if isinstance(part, Axis | PerLayer) else part


def check_ratio(name: str, ratio: Ratio, *, largest: float = LARGEST, why: str = "") -> None:
    """Raise InvalidInputError unless every value of `ratio` is in [0, largest].

    >>> check_ratio("sparsity", PerBlock(attention=1.0))
    Traceback (most recent call last):
    pruninfersim.errors.InvalidInputError: sparsity of attention must be in [0, 1); got 1
    """
    for label, part in parts(ratio, name):
        values = checked(label, values_of(part), minimum=0, below=1)
        if not values.size:
            raise InvalidInputError(f"{label} is empty; give at least one number")
        if np.any(values > largest):
            raise InvalidInputError(f"{label} must be in [0, {largest:g}]; got {float(values.max()):g}. {why}".strip())


def check_sweep(trace: OpTrace, ratio: Ratio) -> None:
    """Raise InvalidInputError unless the sweep axes of `ratio` and of the trace broadcast together."""
    shapes = [
        np.shape(values_of(part))[:-1] if isinstance(part, PerLayer) else np.shape(values_of(part))
        for _, part in parts(ratio)
    ]
    try:
        np.broadcast_shapes(*shapes, trace.sweep_shape)
    except ValueError:
        raise InvalidInputError(
            f"sparsity and a workload of sweep shape {trace.sweep_shape} do not broadcast; "
            "give arrays of equal shape, add axes with [:, None], or let pruninfersim.sweep cross them"
        ) from None


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


def layers_with(trace: OpTrace, layer: int) -> int:
    """Return how many layers the model behind a trace has, after checking that `layer` is one of them.

    Raises
    ------
    InvalidInputError
        If the model has no such layer, or the trace was built by hand without a model.
    """
    layers = model_of(trace).num_layers
    if not 0 <= layer < layers:
        raise InvalidInputError(f"layer {layer} does not exist; the model has layers 0 to {layers - 1}")
    return layers


def with_ratio(
    trace: OpTrace, ratio: Ratio, *, outside: bool = False, roles: bool = False
) -> tuple[OpTrace, FloatArray]:
    """Return the trace, unfolded if a ratio is per layer, and the sparsity of each op, shape (*sweep, op) [1].

    Parameters
    ----------
    trace : OpTrace
    ratio : Ratio
    outside : bool
        Ops outside the layers get 0, or with True the ratio that their neighbouring layer has (methods that change
        the hidden size: embedding follows the first layer, head the last).
    roles : bool
        Whether the method can treat each linear layer by itself.

    Raises
    ------
    InvalidInputError
        If there is not one ratio per layer, a list has as many values as the model has layers and does not say what
        it is, a ratio per block or role is given to a method that crosses them, or the sweep axes do not broadcast.
    """
    if isinstance(ratio, PerBlock) and outside:
        raise InvalidInputError("this method changes the width between blocks: give one ratio, or PerLayer")
    if not roles and any(isinstance(part, PerRole) for part in _all(ratio)):
        raise InvalidInputError("this method changes linear layers together: give PerBlock or PerLayer, not PerRole")
    for label, part in parts(ratio):
        _check_length(label, part, trace)
    check_sweep(trace, ratio)
    if any(isinstance(part, PerLayer) for _, part in parts(ratio)):
        trace = trace.unfold()
    sparsity = _of_ops(ratio, trace)
    if outside:
        return trace, sparsity
    inside = np.array([block in ("attention", "mlp") for block in trace.block])
    return trace, np.where(inside, sparsity, 0.0)


def per_layer_ops(trace: OpTrace, ratio: Ratio) -> NDArray[np.bool_]:
    """Return which ops have a ratio of their own layer, shape (op,)."""

    def marked(part: Any) -> Ratio:
        if isinstance(part, PerBlock | PerRole):
            return type(part)(**{field.name: marked(getattr(part, field.name)) for field in fields(part)})
        return 1.0 if isinstance(part, PerLayer) else 0.0

    return np.asarray(_of_ops(marked(ratio), trace) > 0)


def asked(trace: OpTrace, ratio: Ratio, sparsity: FloatArray | None = None) -> FloatArray:
    """Return what a ratio asks for in all, shape (*sweep) [1]: the removed share of the layers' weights.

    One ratio for all is that ratio, whatever it is a share of. Embedding and LM head are left out, as in the
    sparsities that arXiv 2606.09080 states.

    Parameters
    ----------
    trace : OpTrace
        Before the method, and unfolded where the ratio is per layer.
    ratio : Ratio
    sparsity : ndarray, shape (*sweep, op), optional
        Of `with_ratio`.
    """
    if not isinstance(ratio, PerLayer | PerBlock | PerRole):
        return np.asarray(values_of(ratio), dtype=np.float64)
    weights = layer_weights(trace)
    if sparsity is None:
        trace, sparsity = with_ratio(trace, ratio, roles=True)
        weights = layer_weights(trace)
    total = weights.sum(axis=-1)
    return np.asarray((sparsity * weights).sum(axis=-1) / np.where(total > 0, total, 1.0))


def _all(ratio: Any) -> Iterator[Any]:
    yield ratio
    if isinstance(ratio, PerBlock | PerRole):
        for field in fields(ratio):
            yield from _all(getattr(ratio, field.name))


def _check_length(label: str, part: Any, trace: OpTrace) -> None:
    """A list of as many values as layers has to say whether it is a ratio per layer or an axis of a sweep."""
    shape = np.shape(values_of(part))
    if isinstance(part, PerLayer):
        layers = model_of(trace).num_layers
        if not shape or shape[-1] != layers:
            raise InvalidInputError(
                f"need one ratio per layer, last axis {layers}; got shape {shape}. "
                "Give PerLayer an array with one entry per layer of the model"
            )
    elif not isinstance(part, Axis) and shape and trace.model is not None and shape[-1] == trace.model.num_layers > 1:
        raise InvalidInputError(
            f"{label} has {shape[-1]} values and the model has as many layers: write PerLayer([...]) for one ratio per "
            "layer, or Axis([...]) for the points of a sweep"
        )


def _of_ops(ratio: Any, trace: OpTrace) -> FloatArray:
    """Return the ratio of each op, shape (*sweep, op); of a ratio per layer, those of the ends outside the layers."""
    if isinstance(ratio, PerBlock):
        attention, mlp = (_of_ops(part, trace) for part in (ratio.attention, ratio.mlp))
        rest = np.where(trace.mask(blocks=["mlp"]), mlp, 0.0)
        return np.where(trace.mask(blocks=["attention"]), attention, rest)
    if isinstance(ratio, PerRole):
        roles, out = np.array(trace.roles), np.zeros(len(trace))
        _check_fused(trace)
        for field in fields(ratio):
            out = np.where(roles == field.name, _of_ops(getattr(ratio, field.name), trace), out)
        return out
    values = np.asarray(values_of(ratio), dtype=np.float64)
    if isinstance(ratio, PerLayer):
        last = values.shape[-1] - 1
        rows = zip(trace.layers, trace.block, strict=True)
        return np.asarray(values[..., [row[0] if row else 0 if block == "embedding" else last for row, block in rows]])
    return values[..., None] * np.ones(len(trace))


def _check_fused(trace: OpTrace) -> None:
    fused = sorted({"qkv", "gate_up"} & set(trace.name))
    if fused:
        raise InvalidInputError(
            f"{' and '.join(fused)} are fused already: prune by role first, then fuse_projections()"
        )
