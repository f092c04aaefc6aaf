"""Quantised models: what weights, activations and KV cache are stored in, as a method that composes with pruning."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pruninfersim._util.doors import doors
from pruninfersim.errors import InvalidInputError, shown, unknown_name
from pruninfersim.hardware import precision
from pruninfersim.pruning.base import no_kernel
from pruninfersim.trace import Applied, OpTrace

#: (weights, activations) -> format of the GEMM that multiplies them, a key of `precision.PRECISIONS`; "" leaves the
#: linear layers as they are.
KERNELS = {
    ("bf16", "bf16"): "",
    ("fp8", "fp8"): "fp8",
    ("fp8-block", "fp8"): "fp8_block",
    ("int8", "int8"): "int8",
    ("int8", "bf16"): "int8_wo",
    ("int4", "bf16"): "int4_wo",
    ("mxfp4", "bf16"): "mxfp4",
    ("nvfp4", "nvfp4"): "nvfp4",
}
WEIGHTS = tuple(dict.fromkeys(weights for weights, _ in KERNELS))
#: Kernels that run narrow weights.
KEYS = ("gemm", "shared_gemm", "gemm_2of4", "token_gemm", "per_head_gemm", "moe")
#: What may be said beside the weights.
OPTIONS = ("group", "activations", "kv")
#: KV cache -> bytes per element; fp8 and int8 with one scale per tensor or head, which does not count.
KV_BYTES = {"bf16": 2.0, "fp8": 1.0, "int8": 1.0}


#: The method by name, in the spellings that people use, and what its name alone stands for.
NAME, SPELLINGS, ALONE = "quantized", ("quantized", "quantised"), "fp8"


def named(text: str) -> bool:
    """Return whether a text names this method, with a format or without.

    >>> named("quantized:int4"), named("Quantised"), named("low-rank")
    (True, True, False)
    """
    return text.partition(":")[0].strip().lower() in SPELLINGS


def read(text: str) -> Quantized:
    """Return the method that a text names: ``quantized:WEIGHTS``, and options behind further colons.

    Parameters
    ----------
    text : str
        Such as ``quantized:int4:group=64:kv=fp8``; ``quantized`` alone is in fp8, ``quantized:kv=fp8`` leaves the
        weights in 16 bit.

    Raises
    ------
    UnknownNameError, InvalidInputError
        If there is no such format or option, or no kernel.

    >>> read("quantized:int8:activations=bf16").dtype, read("quantized").dtype
    ('int8_wo', 'fp8')
    """
    options: dict[str, Any] = {}
    for part in (part.strip() for part in text.split(":")[1:]):
        key, equals, value = (word.strip() for word in part.partition("="))
        if not equals:
            key, value = "weights", key
        if key not in ("weights", *OPTIONS):
            raise unknown_name("option of quantized", key, OPTIONS)
        options[key] = _whole(value) if key == "group" else value
    return Quantized(**options) if options else Quantized(ALONE)


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise InvalidInputError(f"quantized: group is a positive whole number; got {shown(text)}")
    return int(text)


@doors
@dataclass(frozen=True)
class Quantized:
    """Store the linear layers and the KV cache in fewer bits.

    Embedding, LM head, routers and norms stay as they are, as in published checkpoints. Prune first or quantise first:
    the kernels that run a layer must know both, or the combination is refused.

    Attributes
    ----------
    weights : {"bf16", "fp8", "fp8-block", "int8", "int4", "mxfp4", "nvfp4"}
        Of the linear layers, experts among them.
    group : int, optional
        Integer weights that share a 16-bit scale; default is 128 for int4, and a whole row for int8.
    activations : {"bf16", "fp8", "int8", "nvfp4"}, optional
        What the weights are multiplied with; default is what kernels of the weights take as a rule: the same, and 16
        bit for int4.
    kv : {"bf16", "fp8", "int8"}, optional
        KV cache; default leaves it. Fewer bytes are read and stored; attention kernels that read narrow caches were
        not timed for this package, so that their time is extrapolated.

    Raises
    ------
    UnknownNameError, InvalidInputError
        If a format is not known, or no library has a kernel for the pair.

    >>> from pruninfersim import Workload, trace
    >>> from pruninfersim.cost.memory import weight_memory
    >>> dense = trace("llama-3.1-8b", Workload.decode())
    >>> small = dense.prune(Quantized("int4", kv="fp8"))
    >>> round(float(weight_memory(small)) / 1e9, 2)
    5.7
    """

    largest: ClassVar[float] = 0.0

    weights: str = "bf16"
    group: int | None = None
    activations: str | None = None
    kv: str | None = None

    def __post_init__(self) -> None:
        if self.weights not in WEIGHTS:
            raise unknown_name("format of weights", self.weights, WEIGHTS)
        if self.kv is not None and self.kv not in KV_BYTES:
            raise unknown_name("format of the KV cache", self.kv, KV_BYTES)
        pairs = [acts for weights, acts in KERNELS if weights == self.weights]
        if self.activations is None:
            object.__setattr__(self, "activations", pairs[0])
        if self.activations not in pairs:
            raise InvalidInputError(
                f"no kernel multiplies {self.weights} weights with {self.activations} activations here; {self.weights} "
                f"weights go with {' or '.join(pairs)}"
            )
        if self.group is not None and (self.weights not in ("int8", "int4") or not self.group > 0):
            raise InvalidInputError(
                f"group is a positive number of integer weights that share a scale; got group={shown(self.group)} for "
                f"{self.weights}"
            )

    @property
    def name(self) -> str:
        """The method as `read` takes it.

        >>> Quantized("int4", group=64, kv="fp8").name, Quantized(kv="fp8").name
        ('quantized:int4:group=64:kv=fp8', 'quantized:kv=fp8')
        """
        usual = next(acts for weights, acts in KERNELS if weights == self.weights)
        said = {
            "activations": None if self.activations == usual else self.activations, "group": self.group, "kv": self.kv
        }  # fmt: skip
        options = [f"{key}={value}" for key, value in said.items() if value is not None]
        weights = [] if self.weights == "bf16" and options else [self.weights]
        return ":".join([NAME, *weights, *options])

    @property
    def dtype(self) -> str:
        """Format of the GEMMs, a key of `pruninfersim.hardware.precision.PRECISIONS`; "" if they stay as they are."""
        return KERNELS[self.weights, str(self.activations)]

    @property
    def weight_bytes(self) -> float:
        """Bytes per weight, scales included [B].

        >>> Quantized("int4").weight_bytes, Quantized("int4", group=32).weight_bytes, Quantized("nvfp4").weight_bytes
        (0.515625, 0.5625, 0.5625)
        """
        return precision.weight_bytes(self.dtype or "bf16", self.group)

    def apply(self, trace: OpTrace) -> OpTrace:
        """Return the trace with narrow linear layers and KV cache.

        Raises
        ------
        InvalidInputError
            If a linear layer is narrow already, or no kernel runs its sparsity pattern in this format.
        """
        out = self._linear(trace) if self.dtype else trace
        if self.kv is not None:
            out = self._cache(out, KV_BYTES[self.kv])
        zero = {block: np.zeros(()) for block in ("attention", "mlp")}
        return replace(out, applied=(*trace.applied, Applied(self.name, np.zeros(()), zero)))

    def _linear(self, trace: OpTrace) -> OpTrace:
        linear: NDArray[np.bool_] = trace.mask(kernels=KEYS)
        form = precision.get(self.dtype)
        for i in np.flatnonzero(linear):
            if bool((trace.a_bytes[..., i] < 2.0).any()) or precision.get(trace.dtype[i]).weight_bytes < 2.0:
                raise InvalidInputError(
                    f"{trace.name[i]} is {trace.dtype[i]} already; quantise a trace of 16-bit weights"
                )
            if trace.pattern[i] and self.dtype in precision.DENSE_ONLY:
                raise InvalidInputError(no_kernel(trace.pattern[i], self.dtype))
        sparse = np.array([pattern == "2:4" for pattern in trace.pattern])
        weights = np.where(sparse, precision.sparse_bytes(self.weight_bytes), self.weight_bytes)
        return trace.with_columns(
            dtype=tuple(self.dtype if is_linear else own for is_linear, own in zip(linear, trace.dtype, strict=True)),
            a_bytes=np.where(linear, form.input_bytes, trace.a_bytes),
            b_bytes=np.where(linear, weights, trace.b_bytes),
            out_bytes=np.where(linear, form.output_bytes, trace.out_bytes),
        )

    def _cache(self, trace: OpTrace, size: float) -> OpTrace:
        attention = np.broadcast_to(trace.gemms == 2.0, trace.shape).reshape(-1, len(trace)).all(axis=0)
        attention &= ~trace.mask(kernels=["moe"])  # experts without a gate have two matrices
        append = trace.mask(kernels=["kv_append"])
        return trace.with_columns(
            b_bytes=np.where(attention, size, trace.b_bytes),
            out_bytes=np.where(append, size, trace.out_bytes),
        )
