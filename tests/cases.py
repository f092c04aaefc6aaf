"""What several test files vary: families, stacks, GPUs, and the precision a GPU can run."""

from __future__ import annotations

import numpy as np
import pytest

import pruninfersim as pis
from pruninfersim.measure import suites
from pruninfersim.measure.cases import Case

FAMILIES = tuple(pis.pruning.METHODS)
#: Every stack there is, so that one added later is tested like the others; of the engines, which are values of one kind
#: on the kernels of "vendor", one whose host issues kernels one by one, and one with a graph.
STACKS = (*(name for name in pis.stacks.STACKS if name not in pis.stacks.ENGINES), "transformers", "vllm")
GPUS = tuple(pis.hardware.names())
#: The GPUs of the reference paper and of the timing data.
MAIN_GPUS = ("a100-sxm-80gb", "h100-sxm", "b200-sxm", "l40s", "rtx-pro-6000", "rtx-5090")
#: Families that leave work of their own behind at sparsity 0.
WITH_OVERHEAD = ("low-rank", "semi-structured", "static-width-cross", "dynamic-depth", "sparse-attention")
#: Notes on the evidence behind two sides are not what most tests are about.
IGNORE_PROVENANCE = pytest.mark.filterwarnings("ignore::pruninfersim.errors.ProvenanceWarning")


def native(gpu: str) -> str:
    """A 16-bit precision that the tensor cores of a GPU have."""
    return "bf16" if "bf16" in pis.hardware.get(gpu).peak else "fp16"


def top_sparsity(family: str) -> float:
    """The highest sparsity that tests ask a family for."""
    return 0.5 if family == "semi-structured" else 0.75


def method(family: str, sparsity):
    return pis.pruning.get(family, sparsity)


def workload(phase: str, batch=1, context=1024, **options) -> pis.Workload:
    if phase == "prefill":
        return pis.Workload.prefill(batch=batch, tokens=context, **options)
    return pis.Workload.decode(batch=batch, context=context)


def rows(trace: pis.OpTrace, *names: str) -> pis.OpTrace:
    """The ops with these names."""
    return trace.select(trace.mask(names=list(names)))


def total(trace: pis.OpTrace, column: str) -> np.ndarray:
    """Sum of a per-run column over the whole pass."""
    return np.asarray((getattr(trace, column) * trace.count).sum(axis=-1))


def some_gemms(count: int = 6) -> list[Case]:
    """The first dense GEMMs that `pruninfersim measure` would time."""
    return [case for case in suites.gemm() if case.kind == "gemm" and case.dtype == "bf16"][:count]
