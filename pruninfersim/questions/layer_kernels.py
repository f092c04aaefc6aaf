"""Latency of kernels of mixtures of experts, latent attention and several GPUs, on any shapes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pruninfersim import hardware as hardware_registry
from pruninfersim._util.arrays import FloatArray, sizes
from pruninfersim._util.doors import door
from pruninfersim.calibration.nearest import nearest_calibration
from pruninfersim.cost import scalar
from pruninfersim.errors import InvalidInputError, unknown_name
from pruninfersim.hardware import HardwareProfile, precision, traits
from pruninfersim.kernels import all_reduce, mla, moe
from pruninfersim.kernels.base import Cache, ceilings
from pruninfersim.questions.single_kernel import CACHES, operands
from pruninfersim.trace import OpTrace
from pruninfersim.workload import checked_routing

#: Library -> kind of the calibrations of its fused mixture of experts.
MOE_LIBRARIES = {"trtllm": "moe", "sglang": "moe_triton"}
MLA_LIBRARIES = ("trtllm", "sglang")
#: The generation on which SGLang's prefill is expanded, and timed as such.
EXPANDS = "Blackwell 10"
#: Precision of the KV cache -> bytes of an element.
CACHE_BYTES = {"bf16": 2.0, "fp16": 2.0, "fp8": 1.0}


@door
def moe_latency(
    *,
    tokens: ArrayLike,
    hidden: ArrayLike,
    inter: ArrayLike,
    experts: ArrayLike,
    top_k: ArrayLike,
    hardware: str | HardwareProfile,
    dtype: str = "bf16",
    tp: ArrayLike = 1,
    ep: ArrayLike = 1,
    routing: str = "uniform",
    gated: bool = True,
    library: str = "trtllm",
    cache: Cache = "cold",
) -> FloatArray | float:
    """Return the time of one mixture-of-experts layer on the most loaded of its GPUs, without router and all-reduce.

    Parameters
    ----------
    tokens, hidden, inter, experts, top_k : array_like
        Tokens of the step, hidden size, width of one expert, experts of the whole model, experts of a token.
    hardware : str or HardwareProfile
    dtype : str
        Precision of weights and activations.
    tp, ep : array_like
        GPUs that split the width of every expert, and groups of them that share the experts.
    routing : {"uniform", "balanced", "power_law_1.01", "power_law_1.2"}
        How tokens choose. At 16 tokens and 8 of 128 experts the weights that are read differ by two between them.
    gated : bool
        Three matrices an expert, or two.
    library : {"trtllm", "sglang"}
        CUTLASS kernels of TensorRT-LLM, or Triton kernels of SGLang.
    cache : {"cold", "replayed"}
        As in `gemm_latency`.

    Returns
    -------
    float or ndarray, broadcast shape of the arguments [s]

    Raises
    ------
    UnknownNameError, InvalidInputError, MissingValueError
        For unknown names, sizes that are not positive, more GPUs than there is to share, missing figures.

    >>> shape = {"hidden": 2048, "inter": 768, "experts": 128, "hardware": "h100-sxm"}
    >>> one, two = moe_latency(tokens=16, top_k=[4, 8], **shape)  # fewer experts a token, fewer weights
    >>> bool(one < two)
    True
    """
    checked_routing(routing)
    if library not in MOE_LIBRARIES:
        raise unknown_name("library", library, MOE_LIBRARIES)
    given = {"tokens": tokens, "hidden": hidden, "inter": inter, "experts": experts, "top_k": top_k, "tp": tp, "ep": ep}
    size = dict(zip(given, np.broadcast_arrays(*sizes(**given).values()), strict=True))
    for part, whole in (("top_k", "experts"), ("ep", "experts"), ("tp", "inter")):
        if (size[part] > size[whole]).any():
            raise InvalidInputError(f"{part} must not be above {whole}")
    form = precision.get(dtype)
    columns = moe.moe_columns(size, gated=float(bool(gated)), routing=routing)
    row: dict[str, Any] = {
        "name": "experts",
        "kernel": "moe",
        "pattern": "" if routing == "uniform" else routing,
        **operands(form),
    }
    return _time(row | columns, MOE_LIBRARIES[library], form.dtype, hardware, cache)


@door
def all_reduce_latency(
    *, bytes: ArrayLike, gpus: ArrayLike, hardware: str | HardwareProfile, library: str = "trtllm"
) -> FloatArray | float:
    """Return the time of one all-reduce under a CUDA graph.

    Parameters
    ----------
    bytes : array_like
        Of the message of every GPU: tokens x hidden size x 2 after a sub-layer under tensor parallelism [B].
    gpus : array_like
        GPUs of the group, in one node; one GPU has nothing to reduce and takes no time.
    hardware : str or HardwareProfile
    library : {"trtllm", "vllm", "sglang", "nccl"}

    Returns
    -------
    float or ndarray, broadcast shape of the arguments [s]

    Raises
    ------
    UnknownNameError, InvalidInputError, MissingValueError

    >>> small, large = all_reduce_latency(bytes=[16384, 2**28], gpus=8, hardware="h100-sxm")
    >>> bool(small < 1e-5 < 5e-4 < large)
    True
    """
    if library not in all_reduce.LIBRARIES:
        raise unknown_name("library", library, all_reduce.LIBRARIES)
    width = sizes(bytes=bytes)["bytes"] / 2.0
    row = {"kernel": "all_reduce", "n": width, "k": width, "ranks": sizes(gpus=gpus)["gpus"]}
    # A roofline of one card says nothing of a replayed message: as measured, for either cache.
    return _time(row, all_reduce.LIBRARIES[library], "bf16", hardware, "replayed")


@door
def mla_latency(
    *,
    phase: str,
    batch: ArrayLike = 1,
    query_len: ArrayLike = 1,
    context: ArrayLike,
    heads: ArrayLike,
    hardware: str | HardwareProfile,
    kv_dtype: str = "bf16",
    form: str | None = None,
    library: str = "trtllm",
    cache: Cache = "cold",
) -> FloatArray | float:
    """Return the time of multi-head latent attention (DeepSeek's sizes: latent 512, rotary 64, keys 192, values 128).

    The projections around it, absorbed or not, are GEMMs of their own.

    Parameters
    ----------
    phase : {"prefill", "decode"}
    batch, query_len, context : array_like
        Sequences; new tokens of each; keys that the last of them attends to, itself included.
    heads : array_like
        Heads of this GPU; the cache is the same on each of a group.
    hardware : str or HardwareProfile
    kv_dtype : {"bf16", "fp8"}
        Of the cache.
    form : {"absorbed", "expanded"}, optional
        All heads on the shared latent, or keys and values of their own; default is absorbed in decode and expanded in
        prefill. Decode is absorbed everywhere.
    library : {"trtllm", "sglang"}
    cache : {"cold", "replayed"}
        As in `gemm_latency`.

    Returns
    -------
    float or ndarray, broadcast shape of the arguments [s]

    Raises
    ------
    UnknownNameError, InvalidInputError, MissingValueError

    >>> few, many = mla_latency(phase="decode", batch=64, context=[1024, 8192], heads=16, hardware="h100-sxm")
    >>> bool(3 < many / few < 8)
    True
    """
    if phase not in ("prefill", "decode"):
        raise unknown_name("phase", phase, ["prefill", "decode"])
    form = form or ("absorbed" if phase == "decode" else "expanded")
    if form not in ("absorbed", "expanded"):
        raise unknown_name("form", form, ["absorbed", "expanded"])
    if phase == "decode" and form != "absorbed":
        raise InvalidInputError("decode of latent attention is absorbed; nothing was timed in the expanded form")
    if library not in MLA_LIBRARIES:
        raise unknown_name("library", library, MLA_LIBRARIES)
    if kv_dtype not in CACHE_BYTES:
        raise unknown_name("kv_dtype", kv_dtype, CACHE_BYTES)
    given = {"batch": batch, "query_len": query_len, "context": context, "heads": heads}
    size = dict(zip(given, np.broadcast_arrays(*sizes(**given).values()), strict=True))
    columns = mla.mla_columns(size, CACHE_BYTES[kv_dtype], form=form, phase=phase)
    kind = "mla_decode_sglang" if phase == "decode" and library == "sglang" else f"mla_{phase}"
    if phase == "prefill" and form == "absorbed":
        kind = "mla_prefill_absorbed"
    elif phase == "prefill" and library == "sglang" and traits.generation(hardware_registry.get(hardware)) == EXPANDS:
        kind = "mla_prefill_sglang"
    row = {"kernel": f"mla_{phase}", "dtype": "bf16"}
    return _time(row | columns, kind, kv_dtype, hardware, cache)


def _time(
    row: dict[str, Any], kind: str, dtype: str, hardware: str | HardwareProfile, cache: Cache
) -> FloatArray | float:
    """Price one op by the calibration that fits the GPU best; a cold one never takes less than its roofline."""
    if cache not in CACHES:
        raise unknown_name("cache", cache, CACHES)
    gpu = hardware_registry.get(hardware)
    calibration, _ = nearest_calibration(kind, dtype, gpu)
    ops = OpTrace.from_rows([row])
    seconds = np.broadcast_to(calibration.latency(ops, gpu, cache=cache), ops.shape)
    if cache == "cold":
        seconds = np.maximum(seconds, ceilings(ops, gpu)[1])
    return scalar(np.asarray(seconds[..., 0]))
