"""How much device memory a trace needs: weights as stored, and the KV cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pruninfersim import ops as catalogue
from pruninfersim._util.arrays import FloatArray
from pruninfersim._util.doors import door
from pruninfersim._util.lazy import callable_module, shows
from pruninfersim._util.words import refuse
from pruninfersim.errors import InvalidInputError
from pruninfersim.hardware import HardwareProfile
from pruninfersim.models import ModelConfig
from pruninfersim.trace import OpTrace, total
from pruninfersim.trace import trace as build

__all__ = ["Memory", "fits", "kv_memory", "memory_notes", "memory_of", "weight_memory"]

__dir__ = shows(__all__)


#: Keywords of the workload of a model.
WORDS = ("phase", "batch", "context", "dtype", "logits")


class Memory(NamedTuple):
    """Device memory of a pass, each of shape (*sweep) [B]; activations and the runtime are not in it."""

    weights: FloatArray | float
    kv_cache: FloatArray | float

    @property
    def total(self) -> FloatArray | float:
        """Weights and KV cache [B]."""
        return self.weights + self.kv_cache


@door
def memory_of(what: Any, **workload: Any) -> Memory:
    """Return weights and KV cache of a trace, of an estimate, of the pruned side of a speedup, or of a model.

    ``pruninfersim.memory(trace)`` is this function.

    Parameters
    ----------
    what : OpTrace, Estimate, Speedup or model
    **workload
        Of a model: `phase`, `batch`, `context`, `dtype`, as `pruninfersim.trace` takes them; default is decode.

    Raises
    ------
    InvalidInputError
        If it is none of them.

    >>> from pruninfersim import Workload, trace
    >>> round(memory_of(trace("llama-3.1-8b", Workload.decode(batch=16, context=4096))).total / 1e9, 2)
    24.65
    >>> round(memory_of("llama-3.1-8b", batch=16, context=4096).total / 1e9, 2)
    24.65
    """
    refuse("memory", [name for name in workload if name not in WORDS], WORDS)
    if isinstance(what, str | Path | ModelConfig):
        what = build(what if isinstance(what, ModelConfig) else str(what), **{"phase": "decode"} | workload)
    elif workload:
        raise InvalidInputError(f"a trace has its workload and precision already; leave {next(iter(workload))} out")
    what = getattr(what, "pruned", what)
    ops = getattr(what, "trace", what)
    if not isinstance(ops, OpTrace):
        raise InvalidInputError(
            f"memory is that of a trace, an estimate, a speedup or a model; got {type(what).__name__}"
        )
    weights, cache = weight_memory(ops), kv_memory(ops)
    return Memory(*(float(x) if x.ndim == 0 else x for x in (weights, cache)))


@door
def weight_memory(trace: OpTrace) -> FloatArray:
    """Return the bytes of all stored weights, shape (*sweep) [B].

    GEMM weights as stored (2:4 with its metadata), every instance of them, plus the embedding table where it is not
    tied to the head.

    >>> from pruninfersim import Workload, trace
    >>> float(weight_memory(trace("llama-3.1-8b", Workload.decode()))) / 1e9
    16.059990016
    """
    weights = _bytes(trace, "weights")
    model = trace.model
    if model is None or model.tie_embeddings:
        return weights
    row = trace.mask(names=["embedding"])
    table = (model.vocab_size * np.where(row, trace.k * trace.a_bytes / trace.ranks, 0.0)).sum(axis=-1)
    return np.asarray(weights + table)


@door
def kv_memory(trace: OpTrace) -> FloatArray:
    """Return the bytes of the KV cache of the whole batch, shape (*sweep) [B].

    >>> from pruninfersim import Workload, trace
    >>> float(kv_memory(trace("llama-3.1-8b", Workload.decode(batch=16, context=4096)))) / 2**30
    8.0
    """
    return _bytes(trace, "cache")


@door
def fits(trace: OpTrace, hardware: HardwareProfile) -> NDArray[np.bool_]:
    """Return whether weights and KV cache fit into the memory of one GPU, shape (*sweep).

    >>> from pruninfersim import Workload, hardware, trace
    >>> step = trace("llama-3.1-405b", Workload.decode(batch=64, context=4096))
    >>> bool(fits(step, hardware.get("rtx-4090")))
    False
    """
    return np.asarray(weight_memory(trace) + kv_memory(trace) <= hardware.memory_size)


@door
def memory_notes(trace: OpTrace, hardware: HardwareProfile) -> tuple[str, ...]:
    """Say so where a trace does not fit, or its context is longer than the model was made for."""
    notes = []
    side = "the pruned model" if trace.applied else "the model"
    need = weight_memory(trace) + kv_memory(trace)
    over = need > hardware.memory_size
    if over.any():
        where = "" if over.all() else f" at {over.sum()} of {over.size} points"
        most = f"{'up to ' if over.size > 1 else ''}{np.max(need) / 1e9:.4g}"
        notes.append(
            f"{side} does not fit on one {hardware.name}{where}: weights and KV cache take {most} GB, and it has "
            f"{hardware.memory_size / 1e9:.4g} GB; the time is that of a card with enough memory"
        )
    notes += _uneven(trace)
    if trace.model is not None:
        notes += trace.model.notes
    if trace.model is not None and trace.workload is not None:
        context = float(np.max(trace.workload.context))
        if context > trace.model.max_position:
            notes.append(
                f"a context of {context:.0f} tokens is beyond the {trace.model.max_position} positions of "
                f"{trace.model.name}"
            )
    return tuple(notes)


def _uneven(trace: OpTrace) -> list[str]:
    """Say so where a rank would hold part of a head."""
    attends = np.array([key.startswith(("attention", "mla")) for key in trace.kernel], dtype=bool)
    ways = np.broadcast_to(trace.ranks, trace.shape)[..., attends]
    mine = np.broadcast_to(trace.batch / trace.sequences, trace.shape)[..., attends]
    part = (ways > 1) & (np.abs(mine - np.round(mine)) > 1e-6)  # 1e-6: of rounding
    if not part.any():
        return []
    heads, gpus = (float(np.max(values[part])) for values in (mine * ways, ways))
    return [f"{gpus:g} GPUs do not share {heads:g} query heads evenly: engines refuse such a split"]


def _bytes(trace: OpTrace, where: str) -> FloatArray:
    """Return the bytes of every B that is stored with the model, or with the sequences, shape (*sweep) [B]."""

    def size(ops: OpTrace) -> FloatArray:
        stored = _stored(ops, where)
        if not stored.any():
            return np.zeros(len(ops))
        each = ops.b_batch * ops.gemms * ops.n * ops.k * ops.b_bytes * ops.count
        return np.where(stored, each, 0.0)

    return np.asarray(total(trace, size))


def _stored(trace: OpTrace, where: str) -> NDArray[np.bool_]:
    """Return which ops have a B that is stored, with the model ("weights") or the sequences ("cache"), shape (op,).

    A key that the catalogue does not know is a linear layer if it is one GEMM, and attention if it is two.
    """
    gemms = np.asarray(trace.gemms).reshape(-1, len(trace)).max(axis=0)
    guess = {1.0: "weights", 2.0: "cache"}
    known = [catalogue.CATALOGUE.get(key) for key in trace.kernel]
    return np.array([(op.b if op else guess.get(float(g))) == where for op, g in zip(known, gemms, strict=True)])


callable_module(__name__, memory_of)
