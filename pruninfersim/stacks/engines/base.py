"""An engine: what it launches for a model, how its host keeps up, and what it takes for itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from pruninfersim._util.doors import doors
from pruninfersim.calibration.record import Calibration
from pruninfersim.cost import CostModel, Priced, Protocol, Spread
from pruninfersim.cost.clock import EngineClock
from pruninfersim.cost.serving import Serving
from pruninfersim.hardware import HardwareProfile
from pruninfersim.kernels.base import KernelModel
from pruninfersim.stacks.engines import kernels as own
from pruninfersim.stacks.engines.hosts import UNKNOWN, Host
from pruninfersim.stacks.engines.lowering import Launched, Lowering
from pruninfersim.stacks.vendor import GRAPH_GAP, vendor

#: 5 and 95 % of ln(measured / assumed) of the engine's own time: leaving every host out, -0.66 and 0.69; where the
#: class of the host is known, half of that.
OWN_TIME = (-0.7, 0.6)
OWN_TIME_KNOWN = (-0.4, 0.4)
#: Half-width at 90 % of two measurements of one speedup of an engine: an assumption, between that of kernels in a graph
#: (`stacks.vendor`: 0.027) and that of host-bound prefill (`vllm`: 0.16).
REPEATABILITY = 0.05


@doors
@dataclass(frozen=True)
class Engine:
    """A stack: the vendor's kernels as one engine launches them, on one host.

    Attributes
    ----------
    name : str
    source : str
        Where the constants come from.
    launched : Launched
        Launches and kernels that the engine makes of the ops of a model.
    step, sequence : float
        Own time of the host after each step, and of each sequence in it, on a typical host [s].
    decode, prefill : float
        New tokens up to which a decode step, or a prefill, runs in a CUDA graph.
    unfused : mapping of str to float, as a tuple of pairs
        Kernel key -> bytes that the kernels of the op move over those of one fused kernel [1]; empty if fused.
    decode_attention : callable, optional
        Makes the decode attention of the engine from the vendor's.
    serving : Serving
    host : Host
    repeatability : float
        Half-width at 90 % of ln of two measurements of a speedup where the host sets the time [1].
    scale : float, optional
        Own time over that of a typical host; None is what the host says [1].
    """

    name: str
    source: str
    launched: Launched
    step: float = 0.0
    sequence: float = 0.0
    decode: float = np.inf
    prefill: float = np.inf
    unfused: tuple[tuple[str, float], ...] = ()
    decode_attention: Callable[[KernelModel], KernelModel] | None = None
    serving: Serving = field(default_factory=Serving)
    host: Host = UNKNOWN
    repeatability: float = REPEATABILITY
    scale: float | None = None

    def on(self, host: Host) -> Engine:
        """Return the engine on a host."""
        return replace(self, host=host, scale=None)

    @property
    def slowness(self) -> float:
        """Own time over that of a typical host [1]."""
        return self.host.slowness if self.scale is None else self.scale

    def __call__(self, hardware: HardwareProfile, calibrations: Sequence[Calibration] = ()) -> CostModel:
        """Return the cost model of the engine on a GPU.

        Parameters
        ----------
        hardware : HardwareProfile
        calibrations : sequence of Calibration
            Of kernels, in place of the shipped ones; see `pruninfersim.stacks.vendor`.
        """
        base = vendor(hardware, calibrations)
        label = f"{self.name} on {self.host.name} host" if self.host is not UNKNOWN else self.name
        return CostModel(
            base.stack.replace("vendor", label, 1),
            hardware,
            self._kernels(base),
            lower=self._lowering(self.launched),
            clock=EngineClock(
                gap=GRAPH_GAP,
                issue=self.host.issue,
                decode=self.decode,
                prefill=self.prefill,
                low=self.host.low,
                high=self.host.high,
                repeatability=self.repeatability,
            ),
            protocol=Protocol(repeatability=REPEATABILITY),
            calibrated=partial(_with_more, self, hardware, tuple(calibrations)),
            serving=replace(self.serving, lower=self._lowering(replace(self.launched, admission=0.0))),
        )

    def _lowering(self, launched: Launched) -> Lowering:
        return Lowering(launched, self.step > 0, self.sequence > 0)

    def _kernels(self, base: CostModel) -> Mapping[str, Priced]:
        """Return the vendor's kernels as this engine launches them."""
        table = dict(base.kernels)
        stream = table["act"]
        if self.decode_attention is not None:
            attention = table["attention_decode"]
            table["attention_decode"] = replace(attention, model=self.decode_attention(attention.model))
        for key, moved in self.unfused:
            table[key] = replace(stream, model=own.Unfused(stream.model, moved))
        known = dict(self.launched.of)
        for key, priced in table.items():
            times = known.get(key.partition("/")[0], 1.0)
            table[key] = replace(priced, launches=priced.launches / times) if times else priced
        return table | self._host_rows(stream)

    def _host_rows(self, stream: Priced) -> dict[str, Priced]:
        """Return what prices the engine's own work."""
        low, high = OWN_TIME if self.host is UNKNOWN else OWN_TIME_KNOWN
        # Bands are factors on the time of a part of the step, which is small: exp(low) - 1 of it, exp(high) - 1 of it.
        band = Spread(np.expm1(low), np.expm1(high), 1.0)
        parts = {"host_step": self.step, "host_sequence": self.sequence}
        rows = {
            key: Priced(own.HostWork(seconds * self.slowness), "calibrated", band, "engine", self.source)
            for key, seconds in parts.items()
        }
        # Counted in issue times, as if they were launches.
        rows["host_admission"] = Priced(own.HostWork(0.0), "calibrated", band, "engine", self.source)
        return rows | {"small_kernels": replace(stream, model=own.SmallKernels())}


def _with_more(
    engine: Engine, hardware: HardwareProfile, known: tuple[Calibration, ...], more: Sequence[Any]
) -> CostModel:
    return engine(hardware, (*known, *more))
