"""What calibration knows about each kind of kernel: its model, its CSV columns, how rows become ops."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from pruninfersim import precision
from pruninfersim._arrays import FloatArray
from pruninfersim.errors import InvalidInputError, unknown_name
from pruninfersim.hardware import HardwareProfile
from pruninfersim.kernels.attention_decode import DecodeAttention
from pruninfersim.kernels.attention_prefill import PrefillAttention, algorithm
from pruninfersim.kernels.base import Cache, KernelModel, parameters
from pruninfersim.kernels.elementwise import Elementwise
from pruninfersim.kernels.gemm import PROTOCOLS, Gemm
from pruninfersim.kernels.gemm_2of4 import SparseGemm24
from pruninfersim.trace import OpTrace

#: (kernel, frame, hardware, cache) -> seconds per row, shape (row,).
Predictor = Callable[[Any, pd.DataFrame, HardwareProfile, Cache], FloatArray]


@dataclass(frozen=True)
class Kind:
    """How one kind of kernel is timed, priced and fitted.

    Attributes
    ----------
    kernel : type
        Frozen dataclass that follows `KernelModel`; its defaults are where a fit begins.
    shape : tuple of str
        Numeric columns of a timings file that say what ran, beside gpu, backend, dtype and latency_us.
    labels : tuple of str
        Text columns that say what ran (an op, a sparsity).
    group : tuple of str
        Columns whose values stay together in one fold of the cross-validation.
    axes : tuple of str
        Columns along which pruning shrinks a shape: pairs that differ in one of them give the ratio errors.
    as_ops : callable
        Frame -> OpTrace, one op per row, sweep shape ().
    scarce : tuple of str
        Parameters that are fitted when there are too few rows for the others.
    predict : callable, optional
        Used in place of ``kernel.latency(as_ops(frame))`` while fitting, where a row tells more than its op does
        (the replay protocol behind a backend).
    extra : callable, optional
        (frame, log residual per row) -> further residuals to fit, for instance of ratios between rows.
    prior_sd : mapping of str to float
        Standard deviations of a normal prior on log parameters, around the kernel's defaults, that every fit of the
        kind uses; empty if only fits with few rows need one.
    untold : callable, optional
        frame -> names of parameters that its rows cannot tell and that stay at their start.
    similarity : tuple of callables
        What makes two GPUs similar for this kind, most telling first; empty for `transfer.SIMILARITY`.
    variant : callable, optional
        GPU -> the fields of the kernel that follow from its architecture and are not fitted.
    carry : callable, optional
        (kernel, GPU it was fitted on, another GPU) -> the kernel for the other one, where parameters cannot carry over
        as they are.
    """

    kernel: type[Any]
    shape: tuple[str, ...]
    group: tuple[str, ...]
    axes: tuple[str, ...]
    as_ops: Callable[[pd.DataFrame], OpTrace]
    scarce: tuple[str, ...]
    labels: tuple[str, ...] = ()
    predict: Predictor | None = None
    extra: Callable[[pd.DataFrame, FloatArray], FloatArray] | None = None
    prior_sd: Mapping[str, float] = field(default_factory=dict)
    untold: Callable[[pd.DataFrame], tuple[str, ...]] | None = None
    similarity: tuple[Callable[[HardwareProfile], str], ...] = ()
    variant: Callable[[HardwareProfile], dict[str, Any]] | None = None
    carry: Callable[[Any, HardwareProfile, HardwareProfile], Any] | None = None

    def start(self, hardware: HardwareProfile) -> Any:
        """Return the kernel model with default parameters, as a fit for this GPU begins with."""
        return self.kernel(**(self.variant(hardware) if self.variant else {}))

    def seconds(self, kernel: KernelModel, frame: pd.DataFrame, hardware: HardwareProfile, cache: Cache) -> FloatArray:
        """Return what the kernel model predicts for the rows, with nothing known but their ops [s]."""
        return kernel.latency(self.as_ops(frame), hardware, cache=cache)

    def fit_seconds(
        self, kernel: KernelModel, frame: pd.DataFrame, hardware: HardwareProfile, cache: Cache
    ) -> FloatArray:
        """Return what the kernel model predicts for the rows, with all that their columns tell [s]."""
        return (self.predict or self.seconds)(kernel, frame, hardware, cache)


def rows_as_ops(frame: pd.DataFrame, columns: dict[str, Any], *, kernel: str, name: str = "") -> OpTrace:
    """Build a trace with one op per row of a timings frame.

    Parameters
    ----------
    frame : DataFrame
        Has a ``dtype`` column of precision names.
    columns : dict
        Numeric trace columns, scalars or one value per row; element sizes follow the precision unless given.
    kernel, name : str
        Labels of all rows.
    """
    sizes = [precision.get(dtype) for dtype in frame["dtype"]]
    wide: dict[str, Any] = {
        "a_bytes": [p.input_bytes for p in sizes],
        "b_bytes": [p.weight_bytes for p in sizes],
        "out_bytes": [p.output_bytes for p in sizes],
        **columns,
    }
    count = len(frame)
    blank = OpTrace.from_rows([{}]).select(np.zeros(count, dtype=int))
    numbers = {key: np.broadcast_to(np.asarray(value, dtype=np.float64), (count,)) for key, value in wide.items()}
    labels = {"name": (name or kernel,) * count, "kernel": (kernel,) * count, "dtype": tuple(p.dtype for p in sizes)}
    return blank.with_columns(**numbers, **labels)


def _gemm_ops(frame: pd.DataFrame) -> OpTrace:
    columns = {axis: frame[axis].to_numpy() for axis in ("m", "n", "k")}
    return rows_as_ops(frame, {**columns, "gemms": 1.0}, kernel="gemm")


def _gemm_seconds(kernel: Gemm, frame: pd.DataFrame, hardware: HardwareProfile, cache: Cache) -> FloatArray:
    """Price each row under the replay protocol of its backend, where that is known."""
    protocol = frame["backend"].str.split().str[0].to_numpy() if "backend" in frame else np.full(len(frame), "")
    shapes = frame.groupby(["dtype", "m", "n", "k"], sort=False)
    distinct = _gemm_ops(frame.loc[shapes.head(1).index])
    of_shape = shapes.ngroup().to_numpy()
    out = np.empty(len(frame))
    known = [name for name in PROTOCOLS if (protocol == name).any()]
    if known:  # the protocols share all but the DRAM time, so they are priced together
        footprints = [PROTOCOLS[name] for name in known]
        for name, seconds in zip(known, kernel.by_protocol(distinct, hardware, cache, footprints), strict=True):
            rows = protocol == name
            out[rows] = seconds[of_shape[rows]]
    rest = ~np.isin(protocol, known)
    if rest.any():
        out[rest] = kernel.latency(distinct, hardware, cache=cache)[of_shape[rest]]
    return out


def _gemm_untold(frame: pd.DataFrame) -> tuple[str, ...]:
    """16-bit operands are not quantised; where all are, the two fixed times only show as their sum."""
    narrow = np.array([precision.get(dtype).input_bytes < 2.0 for dtype in frame["dtype"]])
    return ("launch",) if narrow.all() else () if narrow.any() else ("quantise",)


def _attention_ops(frame: pd.DataFrame, phase: str, causal_share: float) -> OpTrace:
    of = {name: frame[name].to_numpy(dtype=np.float64) for name in ATTENTION}
    columns = {
        "gemms": 2.0,
        "m": of["q_len"],
        "n": of["kv_len"],
        "k": of["head_dim"],
        "batch": of["batch"] * of["heads"],
        "b_batch": of["batch"] * of["kv_heads"],
        "sequences": of["batch"],
        "mac_fraction": causal_share,
    }
    return rows_as_ops(frame, columns, kernel=f"attention_{phase}")


def _prefill_ops(frame: pd.DataFrame) -> OpTrace:
    return _attention_ops(frame, "prefill", 0.5)


def _decode_ops(frame: pd.DataFrame) -> OpTrace:
    return _attention_ops(frame, "decode", 1.0)


def _algorithm(hardware: HardwareProfile) -> dict[str, Any]:
    return {"algorithm": algorithm(hardware)}


def _algorithm_and_memory(hardware: HardwareProfile) -> str:
    """FlashAttention version, and stacked memory or not: launch and L2 parameters follow the class of the card."""
    return f"{algorithm(hardware)} {_memory(hardware)}"


def _capability(hardware: HardwareProfile) -> str:
    return hardware.compute_capability


def _memory(hardware: HardwareProfile) -> str:
    return "HBM" if hardware.memory_type.upper().startswith("HBM") else "other"


#: Shape columns of attention timings: queries and keys per sequence.
ATTENTION = ("batch", "heads", "kv_heads", "head_dim", "q_len", "kv_len")


def _twin_ops(frame: pd.DataFrame) -> OpTrace:
    """Dense and 2:4 rows, each with the kernel key of its side."""
    sparse = frame["sparsity"].isin(SPARSE_NAMES).to_numpy()
    shape = {axis: frame[axis].to_numpy() for axis in ("m", "n", "k")}
    weight = np.array([precision.get(dtype).weight_bytes for dtype in frame["dtype"]])
    out = np.array([precision.get(dtype).output_bytes for dtype in frame["dtype"]])
    wide = frame["backend"].str.contains("INT32").to_numpy() if "backend" in frame else False  # integer accumulators
    columns = {
        **shape,
        "gemms": 1.0,
        "out_bytes": np.where(wide, 4.0, out),
        "mac_fraction": np.where(sparse, 0.5, 1.0),
        "b_bytes": np.where(sparse, precision.sparse_bytes(weight), weight),
    }
    ops = rows_as_ops(frame, columns, kernel="gemm")
    return ops.with_columns(kernel=tuple("gemm_2of4" if is_sparse else "gemm" for is_sparse in sparse))


def _twin_ratios(frame: pd.DataFrame, rows: FloatArray) -> FloatArray:
    """Log residual of dense / 2:4 for every shape that has both; the median over repeats of a side."""
    keys = [name for name in ("dtype", "m", "n", "k") if name in frame]
    sparse = frame["sparsity"].isin(SPARSE_NAMES).to_numpy()
    sides = [
        frame[keys].assign(residual=rows)[sparse == side].groupby(keys)["residual"].median() for side in (False, True)
    ]
    return np.asarray((sides[0] - sides[1]).dropna().to_numpy(), dtype=np.float64)


def _elementwise(kernel: str, names: tuple[str, ...], a_reads: float, out_writes: float) -> Kind:
    """Return the kind of one elementwise op; `k` is the width of its row, as in a trace."""

    def as_ops(frame: pd.DataFrame) -> OpTrace:
        other = sorted(set(frame["op"]) - set(names))
        if other:
            raise InvalidInputError(
                f"these timings hold op {', '.join(other)}; elementwise_{names[0]} is fitted to "
                f"{' or '.join(names)} only. "
                "Select its rows first"
            )
        width = frame["k"].to_numpy()
        columns = {"m": frame["m"].to_numpy(), "n": width, "k": width, "a_reads": a_reads, "out_writes": out_writes}
        return rows_as_ops(frame, columns, kernel=kernel, name=names[0])

    return Kind(
        kernel=Elementwise,
        shape=("m", "k"),
        labels=("op",),
        group=("m",),
        axes=("m", "k"),
        as_ops=as_ops,
        scarce=("launch", "row_bandwidth", "memory_efficiency"),
    )


def _same_kernels(hardware: HardwareProfile) -> str:
    return f"{hardware.compute_capability} {tensor_rate(hardware)}"


def tensor_rate(hardware: HardwareProfile) -> str:
    """Return whether tensor cores run at half rate with fp32 accumulation, as on GeForce cards: "half" or "full".

    At half rate (512 bf16 FLOP per SM and clock, a data-sheet figure) operand feed and power have slack, and both
    dense and 2:4 kernels reach their peak; elsewhere 2:4 falls short of its own by 15 to 20 % more than dense does.
    """
    if hardware.boost_clock is None or "bf16" not in hardware.peak:
        return "full"
    return "half" if hardware.peak["bf16"] / (hardware.sm_count * hardware.boost_clock) < HALF_RATE else "full"


#: What a row of 2:4 timings may call its sparse side.
SPARSE_NAMES = ("2:4", "2_4")
#: bf16 FLOP per SM and clock between half-rate cards (512) and the others (1024 and more).
HALF_RATE = 768.0

#: Ten weight shapes per GPU hold a memory or latency limit of the 2:4 model barely, and rows of one shape share their
#: error: every fit of it needs a prior.
PRIOR_24 = {
    "dense_launch": 0.125,
    "sparse_launch": 0.125,
    "dense_efficiency": 0.06,
    "sparse_efficiency": 0.06,
    "dense_edge": 0.3,
    "sparse_edge": 0.3,
    "dense_step": 0.2,
    "sparse_step": 0.2,
    "memory_efficiency": 0.05,
    "l2_bandwidth": 0.2,
}

#: Fraction of its peak that a half-rate card reaches in attention at most: FlashAttention 2 runs at 165 TFLOP/s on an
#: RTX 4090, whose peak is 165 (22k tokens, figure of github.com/thu-ml/SpargeAttn, digitised).
HALF_RATE_EFFICIENCY = 0.95


def _carried_prefill(kernel: PrefillAttention, source: HardwareProfile, target: HardwareProfile) -> PrefillAttention:
    """Between tensor rates: half as fast, they no longer wait for softmax and loads, nor meet the power limit."""
    if tensor_rate(source) == "full" and tensor_rate(target) == "half":
        efficiency = min(2.0 * kernel.compute_efficiency, HALF_RATE_EFFICIENCY)
        least = parameters(kernel)["power_droop"].metadata["lower"]
        return replace(kernel, compute_efficiency=efficiency, power_droop=least)
    return kernel


#: Prior of attention fits, around the kernels' defaults (about the geometric means of four GPUs): hundreds of rows
#: outweigh it, but parameters that only large batches tell stay sensible where these are left out.
ATTENTION_PRIOR = 0.3
#: What both attention kinds share: the algorithm follows from the GPU, and parameters carry over within it.
ATTENTION_FITS: dict[str, Any] = {
    "variant": _algorithm,
    "similarity": (_capability, _algorithm_and_memory, _memory),
}

#: The kinds of kernels that can be calibrated.
KERNELS: dict[str, Kind] = {
    "gemm": Kind(
        kernel=Gemm,
        shape=("m", "n", "k"),
        group=("n", "k"),
        axes=("m", "n", "k"),
        as_ops=_gemm_ops,
        scarce=("launch", "compute_efficiency", "memory_efficiency"),
        predict=_gemm_seconds,
        untold=_gemm_untold,
    ),
    "attention_prefill": Kind(
        kernel=PrefillAttention,
        shape=ATTENTION,
        group=("heads", "kv_heads", "q_len"),
        axes=("batch", "heads", "q_len"),
        as_ops=_prefill_ops,
        scarce=("launch", "compute_efficiency", "memory_efficiency"),
        **ATTENTION_FITS,
        prior_sd=dict.fromkeys(parameters(PrefillAttention), ATTENTION_PRIOR),
        carry=_carried_prefill,
    ),
    "attention_decode": Kind(
        kernel=DecodeAttention,
        shape=ATTENTION,
        group=("heads", "kv_heads", "kv_len"),
        axes=("batch", "heads", "kv_len"),
        as_ops=_decode_ops,
        scarce=("launch", "memory_efficiency", "block_latency"),
        **ATTENTION_FITS,
        prior_sd=dict.fromkeys(parameters(DecodeAttention), ATTENTION_PRIOR),
    ),
    "gemm_2of4": Kind(
        kernel=SparseGemm24,
        shape=("m", "n", "k"),
        labels=("sparsity",),
        group=("n", "k"),
        axes=("m", "n", "k"),
        as_ops=_twin_ops,
        scarce=("sparse_launch", "sparse_efficiency", "dense_launch", "dense_efficiency"),
        extra=_twin_ratios,
        prior_sd=PRIOR_24,
        similarity=(_same_kernels, tensor_rate),
    ),
    "elementwise_norm": _elementwise("norm", ("norm", "layernorm", "attn_norm", "mlp_norm"), 2.0, 2.0),
    "elementwise_final_norm": _elementwise("norm", ("final_norm", "final_layernorm"), 2.0, 2.0),
    "elementwise_qk_norm": _elementwise("qk_norm", ("qk_norm",), 1.0, 1.0),
    "elementwise_rope": _elementwise("rope", ("rope", "rotary_emb"), 1.0, 1.0),
    "elementwise_act": _elementwise("act", ("act", "act_fn"), 2.0, 1.0),
    "elementwise_embedding": _elementwise("embedding", ("embedding",), 1.0, 1.0),
}


def get(kind: str) -> Kind:
    """Return what calibration knows about `kind`.

    Raises
    ------
    UnknownNameError
        If there is no such kind.

    >>> get("gemm").shape
    ('m', 'n', 'k')
    """
    if kind not in KERNELS:
        raise unknown_name("kernel kind", kind, KERNELS)
    return KERNELS[kind]
