"""Clocks, temperature, power and throttling, read from nvidia-smi while a case runs. Nothing is ever set."""

from __future__ import annotations

import statistics
import subprocess
import threading
import time
from collections import deque
from dataclasses import dataclass
from types import TracebackType
from typing import Self

#: Bits of clocks_throttle_reasons.active that slow kernels down (NVML, nvmlClocksThrottleReasons); idle and user-set
#: clocks are left out, the former because a sample between two cases says idle.
REASONS = {
    0x4: "power-cap", 0x8: "hw-slowdown", 0x10: "sync-boost", 0x20: "sw-thermal", 0x40: "hw-thermal",
    0x80: "power-brake",
}  # fmt: skip
#: Those that say the GPU is too hot (or the supply too weak) for a time to mean anything; a power cap is part of it.
HOT = ("hw-slowdown", "sw-thermal", "hw-thermal", "power-brake")
FIELDS = "clocks.sm,clocks.mem,temperature.gpu,power.draw,clocks_throttle_reasons.active"
#: Time between two samples [ms].
INTERVAL = 20


@dataclass(frozen=True)
class Sample:
    """One line of nvidia-smi; NaN where the GPU does not tell."""

    when: float
    sm_mhz: float
    mem_mhz: float
    temperature_c: float
    power_w: float
    reasons: int


def parse_sample(line: str, when: float) -> Sample | None:
    """Return the sample in a line of nvidia-smi, or None if it is none.

    >>> parse_sample("1980, 2619, 41, 302.15, 0x0000000000000004", 0.0).sm_mhz
    1980.0
    """
    cells = [cell.strip() for cell in line.split(",")]
    if len(cells) != 5:
        return None

    def number(text: str) -> float:
        try:
            return float(text)
        except ValueError:  # "[N/A]", "[Not Supported]"
            return float("nan")

    try:
        reasons = int(cells[4], 16)
    except ValueError:
        reasons = 0
    sm, memory, temperature, power = (number(cell) for cell in cells[:4])
    return Sample(when, sm, memory, temperature, power, reasons)


def summary(samples: list[Sample]) -> dict[str, float | str]:
    """Return the columns of a file: medians, and every reason for throttling that any sample gives."""
    if not samples:
        return {"sm_mhz": "", "mem_mhz": "", "temperature_c": "", "power_w": "", "throttle": "unknown"}
    out: dict[str, float | str] = {}
    for name in ("sm_mhz", "mem_mhz", "temperature_c", "power_w"):
        known = [value for sample in samples if (value := getattr(sample, name)) == value]
        out[name] = round(statistics.median(known), 1) if known else ""
    active = [name for bit, name in REASONS.items() if any(sample.reasons & bit for sample in samples)]
    return out | {"throttle": "+".join(active) or "none"}


class Monitor:
    """Runs ``nvidia-smi`` in its loop mode in the background; without it, every column says unknown."""

    def __init__(self, gpu: str = "0", interval: int = INTERVAL) -> None:
        self.command = ["nvidia-smi", f"--id={gpu}", f"--query-gpu={FIELDS}", "--format=csv,noheader,nounits"]
        self.command += [f"--loop-ms={interval}"]
        self.samples: deque[Sample] = deque(maxlen=20_000)
        self.process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        try:
            self.process = subprocess.Popen(
                self.command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, text=True
            )
        except OSError:  # no nvidia-smi
            return self
        self.reader = threading.Thread(target=self._read, args=(self.process,), daemon=True)
        self.reader.start()
        return self

    def _read(self, process: subprocess.Popen[str]) -> None:
        for line in process.stdout or ():
            sample = parse_sample(line, time.monotonic())
            if sample is not None:
                self.samples.append(sample)

    def between(self, start: float, stop: float) -> dict[str, float | str]:
        """Return the summary of the samples of a span of `time.monotonic`, or of the last one before its end."""
        samples = list(self.samples)
        inside = [sample for sample in samples if start <= sample.when <= stop]
        return summary(inside or [sample for sample in samples if sample.when <= stop][-1:])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(timeout=10)
            self.reader.join(timeout=10)
            if self.process.stdout is not None:
                self.process.stdout.close()
