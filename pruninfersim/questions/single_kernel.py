"""Latency of single kernels on any shapes: `gemm_latency` and `attention_latency`."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any, Never

import numpy as np
from numpy.typing import ArrayLike

from pruninfersim import hardware as hardware_registry
from pruninfersim import stacks
from pruninfersim._util.arrays import TOO_LARGE, FloatArray, checked, sizes
from pruninfersim._util.doors import door
from pruninfersim._util.words import refuse
from pruninfersim.cost import CostModel, scalar
from pruninfersim.errors import InvalidInputError, shown, unknown_name
from pruninfersim.hardware import HardwareProfile, precision
from pruninfersim.kernels.attention_decode import DecodeAttention
from pruninfersim.kernels.base import Cache
from pruninfersim.kernels.quantise import BEHIND
from pruninfersim.models.architectures.rows import causal_share
from pruninfersim.pruning.base import no_kernel
from pruninfersim.stacks import Stack
from pruninfersim.trace import OpTrace

#: What `kernel` may be -> kernel key of the trace.
GEMM_KERNELS = {"dense": "gemm", "2:4": "gemm_2of4"}
CACHES = ("cold", "replayed")


@door
def gemm_latency(
    m: ArrayLike,
    n: ArrayLike,
    k: ArrayLike,
    *,
    hardware: str | HardwareProfile | None = None,
    dtype: str = "bf16",
    kernel: str = "dense",
    cache: Cache = "cold",
    stack: str | Stack | CostModel = "vendor",
    quantise: str = "fused",
    library: str | None = None,
    **other: Never,
) -> FloatArray | float:
    """Return the time of ``x[m, k] @ W[n, k].T``.

    Parameters
    ----------
    m, n, k : array_like
        Tokens, output features, input features (of the dense matrix for 2:4); they broadcast.
    hardware : str or HardwareProfile
    dtype : str
        Precision, a key of `pruninfersim.hardware.precision.PRECISIONS`.
    kernel : {"dense", "2:4"}
    cache : {"cold", "replayed"}
        "cold": operands stream from HBM, as in a model step, so that no time is below the roofline. "replayed": as a
        micro-benchmark that cycles a few copies would measure it, partly from L2.
    stack : str, callable or CostModel
    quantise : {"fused", "per-token", "dynamic"}
        Whether activations arrive narrow, or one kernel or two quantise them first: part of the time, as is the later
        start of a GEMM behind other kernels. Without effect where they stay in 16 bit. Of the stack "vendor" only.
    library : {"trtllm", "sglang"}, optional
        Engine whose kernel runs a narrow GEMM; default is the vendor's. Of the stack "vendor" only.

    Returns
    -------
    float or ndarray, shape of m, n, k broadcast [s]

    Raises
    ------
    UnknownNameError, InvalidInputError, MissingValueError
        For unknown names, sizes that are not positive, figures that the profile lacks.

    >>> bool(gemm_latency(4096, 4096, 4096, hardware="a100-sxm-80gb") > 2 * 4096**3 / 312e12)
    True
    """
    refuse(gemm_latency, other)
    if kernel not in GEMM_KERNELS:
        raise unknown_name("kernel", kernel, GEMM_KERNELS)
    form = precision.get(dtype)
    if kernel == "2:4" and dtype in precision.DENSE_ONLY:
        raise InvalidInputError(no_kernel("2:4", dtype))
    row: dict[str, Any] = {
        "name": kernel,
        "kernel": GEMM_KERNELS[kernel],
        "gemms": 1.0,
        **operands(form),
        **sizes(m=m, n=n, k=k),
    }
    if kernel == "2:4":
        row |= {"mac_fraction": 0.5, "pattern": "2:4", "b_bytes": precision.sparse_bytes(form.weight_bytes)}
    if (quantise, library) != ("fused", None):
        if stack != "vendor":
            raise InvalidInputError(
                "quantise and library choose a form of the stack 'vendor'; build your own with "
                "pruninfersim.stacks.vendor(gpu, quantise=..., library=...)"
            )
        stack = _vendor(_gpu(hardware), quantise, library)
    return _priced([row], hardware, stack, cache)


@lru_cache(maxsize=64)
def _vendor(gpu: HardwareProfile, quantise: str, library: str | None) -> CostModel:
    return stacks.vendor(gpu, quantise=quantise, library=library)


@door
def attention_latency(
    *,
    phase: str,
    batch: ArrayLike = 1,
    query_len: ArrayLike = 1,
    context: ArrayLike,
    heads: ArrayLike,
    kv_heads: ArrayLike | None = None,
    head_dim: ArrayLike = 128,
    hardware: str | HardwareProfile | None = None,
    dtype: str = "bf16",
    kv_dtype: str | None = None,
    window: ArrayLike | None = None,
    cache: Cache = "cold",
    stack: str | Stack | CostModel = "vendor",
    **other: Never,
) -> FloatArray | float:
    """Return the time of one causal attention layer: QK.T, softmax, PV, and the append to the KV cache.

    Parameters
    ----------
    phase : {"prefill", "decode"}
    batch, query_len, context : array_like
        Sequences; new tokens of each; keys that the last of them attends to, itself included.
    heads, kv_heads, head_dim : array_like
        Query heads, KV heads (default: as many), width of a head.
    dtype : str
        Precision of queries, products and outputs: "bf16", "fp16", "fp32" or "tf32". Beside linear layers of fp8, int8
        or fp4 it is "bf16".
    kv_dtype : str, optional
        Precision of the KV cache: that of `dtype`, the default, or "fp8". Its kernels convert what they read, so that
        half the bytes are not half the time. "int8" is priced as fp8, which was timed.
    window : array_like, optional
        Keys that a token sees at most, itself included; default is all.
    hardware, cache, stack : as in `gemm_latency`

    Returns
    -------
    float or ndarray, broadcast shape of the arguments [s]

    Raises
    ------
    UnknownNameError, InvalidInputError, MissingValueError

    >>> shape = {"query_len": 4096, "context": 4096, "heads": 32, "kv_heads": 8}
    >>> one, two = attention_latency(phase="prefill", batch=[1, 2], hardware="h100-sxm", **shape)
    >>> bool(1.5 < two / one < 2.1)
    True
    """
    refuse(attention_latency, other)
    if phase not in ("prefill", "decode"):
        raise unknown_name("phase", phase, ["prefill", "decode"])
    given = {"batch": batch, "query_len": query_len, "context": context, "heads": heads, "head_dim": head_dim}
    size = sizes(**given, kv_heads=heads if kv_heads is None else kv_heads)
    groups = size["kv_heads"]
    if np.any(size["heads"] % groups):
        raise InvalidInputError(f"kv_heads must divide heads; got {shown(heads)} heads and {shown(kv_heads)} KV heads")
    if np.any(size["context"] < size["query_len"]):
        raise InvalidInputError(
            "context counts the keys that the last of the new tokens attends to, these included: it is at least "
            f"query_len; got a context of {shown(context)} for a query_len of {shown(query_len)}"
        )
    form = _attention_precision(dtype, kv_dtype)
    query, before = size["query_len"], size["context"]
    seen = np.inf if window is None else checked("window", window, minimum=1, below=TOO_LARGE)
    keys = np.minimum(size["context"], query + seen - 1.0)
    share = (
        np.ones(()) if phase == "decode" else causal_share(query, before, np.minimum(before, query + seen - 1.0), seen)
    )
    common: dict[str, Any] = {**operands(form), "sequences": size["batch"]}
    narrow = 1.0 if kv_dtype in ("fp8", "int8") else form.weight_bytes
    attention = common | {
        "b_bytes": narrow,
        "name": "attention",
        "kernel": f"attention_{phase}",
        "gemms": 2.0,
        "m": size["query_len"],
        "n": keys,
        "k": size["head_dim"],
        "batch": size["batch"] * size["heads"],
        "b_batch": size["batch"] * groups,
        "mac_fraction": share,
        **({} if window is None else {"pattern": "window", "grain": seen}),
    }
    width = 2.0 * groups * size["head_dim"]
    tokens = size["batch"] * size["query_len"]
    append = common | {"name": "kv_append", "kernel": "kv_append", "m": tokens, "n": width, "k": width}
    append["out_bytes"] = narrow
    # A replayed benchmark has its KV write inside the measured time, and so has the floor of a decode step.
    apart = cache == "cold" and phase == "prefill"
    return _priced([attention, append] if apart else [attention], hardware, stack, cache)


def operands(form: precision.Precision) -> dict[str, Any]:
    """Return what a row says of the precision of its operands."""
    return {
        "dtype": form.dtype, "a_bytes": form.input_bytes, "b_bytes": form.weight_bytes, "out_bytes": form.output_bytes,
    }  # fmt: skip


def _attention_precision(dtype: str, kv_dtype: str | None) -> precision.Precision:
    """Return the precision of attention and its cache, if kernels of it are priced."""
    form = precision.get(dtype)
    if precision.activations(dtype) != form:
        allowed = ", ".join(name for name in precision.PRECISIONS if precision.activations(name).dtype == name)
        raise InvalidInputError(
            f"attention is priced in {allowed}; got dtype={shown(dtype)}. Beside {dtype} linear layers it runs in bf16"
        )
    if kv_dtype is None or precision.get(kv_dtype) == form:
        return form
    if kv_dtype not in ("fp8", "int8") or form.weight_bytes != 2.0:
        raise InvalidInputError(
            f"kv_dtype must be {dtype!r}, as dtype, or fp8 or int8 beside 16 bit; got {shown(kv_dtype)}: attention "
            "over a KV cache of another precision is not modelled"
        )
    return form


def _gpu(hardware: str | HardwareProfile | None) -> HardwareProfile:
    if hardware is None:
        raise InvalidInputError("a kernel needs a GPU to run on, for instance hardware='h100-sxm'")
    return hardware_registry.get(hardware)


def _priced(
    rows: list[dict[str, Any]], hardware: str | HardwareProfile | None, stack: str | Stack | CostModel, cache: Cache
) -> FloatArray | float:
    """Price rows and add them up."""
    if cache not in CACHES:
        raise unknown_name("cache", cache, CACHES)
    gpu = _gpu(hardware)
    cost_model = stacks.get(stack, gpu)
    ops = OpTrace.from_rows(rows)
    if cache == "cold":
        return cost_model.predict(ops).latency
    return scalar(replayed(ops, cost_model))


def replayed(ops: OpTrace, cost_model: CostModel) -> FloatArray:
    """Return the time of micro-benchmarks of all ops, one after the other, shape (*sweep) [s].

    No launch gaps but that of a GEMM behind its quantisation, and no roofline: what a benchmark replays it may find in
    L2. Decode splits its keys as the library that was timed.
    """
    lowered = cost_model.lower(ops)
    models = [p.model for p in cost_model.of(lowered)]
    timed = [replace(model, splits="vllm") if isinstance(model, DecodeAttention) else model for model in models]
    alone = sum(
        model.latency(lowered.select([i]), cost_model.hardware, cache="replayed")[..., 0]
        for i, model in enumerate(timed)
    )
    behind = lowered.launches * np.array([key.startswith("quantise") for key in lowered.kernel])
    return np.asarray(alone + BEHIND * behind.sum(axis=-1))
