"""All-reduce of the GPUs of a tensor-parallel group: one-shot for small messages, two-shot or ring for large ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from pruninfersim._util.arrays import FloatArray
from pruninfersim.hardware import HardwareProfile
from pruninfersim.kernels.base import Cache, parameter, parameters
from pruninfersim.kernels.evidence import Quantity, Spread
from pruninfersim.kernels.kind import Kind, Regime, rows_as_ops
from pruninfersim.trace import OpTrace

if TYPE_CHECKING:
    import pandas as pd


def message(ops: OpTrace) -> FloatArray:
    """Return the bytes that every rank contributes, shape (*sweep, op) [B]."""
    return ops.m * ops.n * ops.out_bytes


@dataclass(frozen=True)
class AllReduce:
    """Time of one all-reduce under a CUDA graph.

    One-shot: every rank reads the messages of all others. Two-shot, or a ring: 2 (N - 1) / N of the message cross the
    link of a rank; large messages approach the full rate slowly, and switches that add on the way make it grow with the
    ranks. The library takes the faster, up to the size from which it calls NCCL. An op's message is [m, n] of
    `out_bytes`; the ranks are its column ``ranks``.

    >>> from pruninfersim import hardware
    >>> row = {"kernel": "all_reduce", "m": [1, 8192], "n": 8192, "k": 8192, "ranks": 8}
    >>> small, large = AllReduce().latency(OpTrace.from_rows([row]), hardware.get("h100-sxm"))[..., 0]
    >>> bool(small < 1e-5), bool(large > 134e6 / 450e9)
    (True, True)
    """

    one_start: float = parameter(4e-6, 1e-7, 5e-5, "s", "start of a one-shot all-reduce")
    one_rank: float = parameter(1e-7, 1e-9, 2e-5, "s", "one-shot: synchronisation with one more rank")
    one_bandwidth: float = parameter(0.25, 0.005, 2.0, "1", "one-shot: rate over that of the link, one direction")
    two_start: float = parameter(1e-5, 1e-7, 1e-4, "s", "start of a two-shot or ring all-reduce")
    two_rank: float = parameter(1e-7, 1e-9, 2e-5, "s", "two-shot: synchronisation with one more rank")
    two_bandwidth: float = parameter(1.0, 0.02, 3.0, "1", "two-shot: rate over that of the link, one direction")
    growth: float = parameter(
        0.1, 0.001, 0.6, "1", "two-shot: exponent with which its rate grows with the ranks, over 2 ranks"
    )
    ramp: float = parameter(5e-5, 1e-7, 1e-3, "s", "time that large messages lose before full bandwidth")

    #: Message from which NCCL is called, by 2 and by 8 ranks; between them it goes with a power of the ranks [B].
    hand_over_two: float = 1e18
    hand_over_eight: float = 1e18
    #: The same eight figures of NCCL.
    nccl_one_start: float = 4e-6
    nccl_one_rank: float = 2e-6
    nccl_one_bandwidth: float = 0.25
    nccl_two_start: float = 2e-5
    nccl_two_rank: float = 1e-7
    nccl_two_bandwidth: float = 1.0
    nccl_growth: float = 0.1
    nccl_ramp: float = 5e-5

    #: Ranks up to which the rate grows: what was timed.
    MOST: ClassVar[float] = 8.0
    #: Sharpness with which a library takes the faster of both; fixed.
    CHOICE: ClassVar[float] = 6.0
    #: PCIe 5.0 x16, one direction [B/s]: the link of cards that have no other.
    PCIE: ClassVar[float] = 63e9

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the time of one run of each op, shape (*sweep, op) [s]."""
        size, ranks = message(ops), np.maximum(ops.ranks, 1.0)
        link = hardware.interconnect_bandwidth
        link = self.PCIE if link is None else link / 2.0
        last = self.hand_over(ranks)
        nccl = np.maximum(self._sooner(size, ranks, link, "nccl_"), self._sooner(last, ranks, link, ""))
        time = np.where(size < last, self._sooner(size, ranks, link, ""), nccl)
        return np.asarray(np.where(ranks > 1.0, time, 0.0))

    def hand_over(self, ranks: FloatArray) -> FloatArray:
        """Return the message from which NCCL is called [B]."""
        share = np.clip(np.log2(np.maximum(ranks, 2.0) / 2.0) / 2.0, 0.0, 1.0)
        return np.asarray(self.hand_over_two * (self.hand_over_eight / self.hand_over_two) ** share)

    def _sooner(self, size: FloatArray, ranks: FloatArray, link: float, whose: str) -> FloatArray:
        """Return the time of the faster algorithm, of the library's own kernels or of NCCL's [s]."""
        own = {name: float(getattr(self, whose + name)) for name in parameters(self)}
        others = ranks - 1.0
        one = own["one_start"] + own["one_rank"] * others + others * size / (own["one_bandwidth"] * link)
        rate = own["two_bandwidth"] * (np.minimum(ranks, self.MOST) / 2.0) ** own["growth"]
        wire = 2.0 * others / ranks * size / (rate * link)
        two = own["two_start"] + own["two_rank"] * others + wire + own["ramp"] * wire / (wire + own["ramp"])
        best, other = np.minimum(one, two), np.maximum(one, two)
        return np.asarray(best * (1.0 + (best / other) ** self.CHOICE) ** (-1.0 / self.CHOICE))


# --- how timings of it are read, fitted and judged ------------------------------------------------------------------


def _as_ops(frame: pd.DataFrame) -> OpTrace:
    width = frame["bytes"].to_numpy(dtype=np.float64) / 2.0
    columns = {"m": 1.0, "n": width, "k": width, "a_bytes": 2.0, "out_bytes": 2.0, "ranks": frame["num_gpus"]}
    return rows_as_ops(frame, columns, kernel="all_reduce")


def _ranks(ops: OpTrace) -> FloatArray:
    return ops.ranks


KIND = Kind(
    kernel=AllReduce,
    shape=("num_gpus", "bytes"),
    group=("bytes",),
    axes=("bytes",),
    as_ops=_as_ops,
    scarce=("one_start", "one_bandwidth", "two_start", "two_bandwidth"),
    prior_sd={
        "one_start": 1.5, "one_rank": 2.0, "one_bandwidth": 1.5, "two_start": 1.5, "two_rank": 2.0,
        "two_bandwidth": 1.5, "growth": 1.5, "ramp": 2.0,
    },
    left_out=Spread(-0.45, 0.45, 0.6),
    quantities=(Quantity("message", message, "B", above=0.3), Quantity("ranks", _ranks, above=1.0)),
    regimes=(Regime.of_column("bytes", 16384, 1048576),),
    family="all_reduce",
)  # fmt: skip
#: Libraries by the name that `all_reduce_latency` takes -> kind of their calibrations.
LIBRARIES = {library: f"all_reduce_{library}" for library in ("trtllm", "vllm", "sglang", "nccl")}
KINDS = dict.fromkeys(LIBRARIES.values(), KIND)
