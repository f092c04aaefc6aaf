"""Whether a faster card is ever slower: every profile, every kernel of the vendor stack, one figure raised at a time.

Usage: python validation/monotone.py [--gpu NAME ...]

Clones of each profile, with one figure from half to twice its value, price prefill and decode of dense and pruned
models; an op whose time rises with a figure is printed with the factor. SMs come with the peaks that belong to them: at
the same peak more SMs are slower SMs. Ends with 1 if any is found.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterable, Iterator
from functools import cache
from typing import NamedTuple

import numpy as np

import pruninfersim as pis
from pruninfersim.errors import MissingValueError
from pruninfersim.hardware import HardwareProfile

#: What makes a card faster. "sm_count" brings the peaks along; "peak" is of dense products, "peak_2of4" of 2:4 ones.
FIGURES = ("peak", "peak_2of4", "memory_bandwidth", "sm_count", "boost_clock", "max_clock", "l2_size", "tdp")
FACTORS = (0.5, 0.7, 0.75, 0.8, 0.9, 0.97, 1.0, 1.03, 1.1, 1.3, 1.31, 2.0)
WORKLOADS = (pis.Workload.prefill(1, [777, 8192]), pis.Workload.decode([1, 64], [4096, 3000]))
MODEL = "llama-3.1-8b"
#: Arithmetic of floating-point numbers.
ROUNDING = 1e-9


class Slower(NamedTuple):
    """An op of a card that takes longer than on a card with less of one figure."""

    gpu: str
    figure: str
    factor: float
    kernel: str
    ratio: float


def raised(gpu: HardwareProfile, figure: str, factor: float) -> HardwareProfile | None:
    """Return the card with more of a figure; None where it has none."""
    if factor == 1.0:
        return gpu
    name = f"{gpu.name}-{figure}"
    if figure in ("peak", "peak_2of4"):
        rates = getattr(gpu, figure)
        return gpu.clone(name, **{figure: {dtype: rate * factor for dtype, rate in rates.items()}}) if rates else None
    if figure == "sm_count":
        sms = gpu.dies * max(round(gpu.sm_count * factor / gpu.dies), 1)  # as many on each die
        peaks = {
            table: {dtype: rate * sms / gpu.sm_count for dtype, rate in getattr(gpu, table).items()}
            for table in ("peak", "peak_2of4")
        }
        return gpu.clone(name, sm_count=sms, **peaks)
    value = getattr(gpu, figure)
    return None if value is None else gpu.clone(name, **{figure: value * factor})


@cache
def traces(dtype: str, sparse: bool) -> tuple[pis.OpTrace, ...]:
    """Return dense and pruned passes."""
    found = []
    for work in WORKLOADS:
        dense = pis.trace(MODEL, work, dtype=dtype)
        families = [name for name in pis.pruning.names() if sparse or name != "semi-structured"]
        found += [dense, *(dense.prune(pis.pruning.get(name, 0.5)) for name in families)]
    return tuple(found)


def slower(name: str, figures: Iterable[str] = FIGURES, factors: Iterable[float] = FACTORS) -> Iterator[Slower]:
    """Yield every op that a faster card runs slower."""
    gpu = pis.hardware.get(name)
    dtype = "bf16" if "bf16" in gpu.peak else "fp16"
    passes = traces(dtype, dtype in gpu.peak_2of4)
    for figure in figures:
        before = None
        for factor in factors:
            card = raised(gpu, figure, factor)
            if card is None:
                break
            cost_model = pis.stacks.get("vendor", card)
            estimates = [cost_model.predict(each) for each in passes]
            for old, new in zip(before or estimates, estimates, strict=True):
                # Copies of a single token take no time.
                ratio = np.divide(new.run, old.run, out=np.ones(new.run.shape), where=old.run > 0)
                for at in np.argwhere(ratio > 1.0 + ROUNDING):
                    yield Slower(name, figure, factor, new.trace.kernel[at[-1]], float(ratio[tuple(at)]))
            before = estimates


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpu", nargs="*", default=pis.hardware.names())
    worst: dict[tuple[str, str], Slower] = {}
    count: dict[tuple[str, str], int] = {}
    warnings.simplefilter("ignore")
    for name in parser.parse_args().gpu:
        try:
            for each in slower(name):
                key = each.figure, each.kernel
                count[key] = count.get(key, 0) + 1
                worst[key] = max(worst.get(key, each), each, key=lambda found: found.ratio)
        except MissingValueError as error:
            print(f"skipped: {error}")
    for key in sorted(worst):
        print(f"{key[0]:>18} {key[1]:24} {count[key]:5} times, at most {worst[key].ratio:.4f} on {worst[key].gpu}")
    return 1 if worst else 0


if __name__ == "__main__":
    sys.exit(main())
