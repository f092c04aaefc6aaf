"""The public conformance suites: the built-ins pass through the same door, broken toys do not."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from cases import FAMILIES, STACKS, top_sparsity

import pruninfersim as pis
from pruninfersim import testing
from pruninfersim.errors import ConformanceError, InvalidInputError, UnknownNameError
from pruninfersim.kernels.base import Roofline, roofline
from pruninfersim.ops import CATALOGUE
from pruninfersim.pruning import PerBlock, PerLayer
from pruninfersim.pruning.base import record
from pruninfersim.trace import OpTrace

DECODE = (pis.Workload.decode(batch=1, context=1024), pis.Workload.decode(batch=8, context=4096))


# --- built-in methods -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["llama-3.1-8b", "gemma-2-9b", "qwen3-0.6b"])
@pytest.mark.parametrize("family", FAMILIES)
def test_built_in_methods_pass(family, model):
    for sparsity in (0.0, 0.3, np.linspace(0, top_sparsity(family), 3)):
        testing.check_pruning(pis.pruning.get(family, sparsity), model=model)


@pytest.mark.parametrize("family", FAMILIES)
def test_built_in_methods_pass_with_other_ratios(family):
    if family != "static-depth":
        testing.check_pruning(pis.pruning.get(family, PerLayer(np.linspace(0, 0.5, 32))), workloads=DECODE)
    if family != "static-width-cross":
        testing.check_pruning(pis.pruning.get(family, PerBlock(0.1, 0.5)), workloads=DECODE)


def test_a_list_of_layers_passes():
    testing.check_pruning(pis.pruning.StaticDepth(layers=(3, 5), attention_layers=(7,)))


def test_other_workloads():
    full = pis.Workload.prefill(batch=2, tokens=64, prefix=64, logits="all", causal=False)
    testing.check_pruning(pis.pruning.StaticWidth(0.5), workloads=[full])
    with pytest.raises(InvalidInputError, match="without sweep axes"):
        testing.check_pruning(pis.pruning.StaticWidth(0.5), workloads=[pis.Workload.decode(batch=[1, 2])])


# --- broken methods ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Toy:
    """Halves the counts and says so; a method of another package in five lines."""

    name = "toy"

    def change(self, trace: OpTrace) -> OpTrace:
        return trace.with_columns(count=trace.count * 0.5)

    def note(self, trace: OpTrace) -> OpTrace:
        return record(trace, self.name, 0.5, {"mlp": 0.5})

    def apply(self, trace: OpTrace) -> OpTrace:
        return self.note(self.change(trace))


class Mutates(Toy):
    def apply(self, trace):
        trace.m.flags.writeable = True
        trace.m[...] = 1.0
        return super().apply(trace)


class WritesInPlace(Toy):
    def change(self, trace):
        trace.count[...] *= 0.5
        return trace


class Random(Toy):
    def change(self, trace):
        return trace.with_columns(count=trace.count * np.random.default_rng().random())


class WritableColumns(Toy):
    def change(self, trace):
        return replace(trace, m=np.array(trace.m))


class ListColumns(Toy):
    def change(self, trace):
        return replace(trace, m=trace.m.tolist())


class ShortColumns(Toy):
    def change(self, trace):
        return trace.with_columns(m=trace.m[..., :-1])


class ShortLabels(Toy):
    def change(self, trace):
        return trace.with_columns(kernel=trace.kernel[:-1])


class NaN(Toy):
    def change(self, trace):
        return trace.with_columns(mac_fraction=trace.mac_fraction * np.nan)


class Negative(Toy):
    def change(self, trace):
        return trace.with_columns(count=trace.count - 1000)


class NoWidth(Toy):
    def change(self, trace):
        return trace.with_columns(k=trace.k * 0)


class UnknownKernel(Toy):
    def change(self, trace):
        return trace.with_columns(kernel=("my_gemm",) * len(trace))


class UnknownBlock(Toy):
    def change(self, trace):
        return trace.with_columns(block=("nowhere",) * len(trace))


class MoreWork(Toy):
    def change(self, trace):
        return trace.with_columns(mac_fraction=trace.mac_fraction * 1.5)


class WrongName(Toy):
    def note(self, trace):
        return record(trace, "other", 0.5, {"mlp": 0.5})


class NothingAchieved(Toy):
    def note(self, trace):
        return record(trace, self.name, 0.5, {})


class AchievedAll(Toy):
    def note(self, trace):
        return record(trace, self.name, 0.5, {"mlp": 1.0})


class AchievedLess(Toy):
    def note(self, trace):
        return record(trace, self.name, 0.5, {"mlp": -0.2})


class AskedPercent(Toy):
    def note(self, trace):
        return record(trace, self.name, 50.0, {"mlp": 0.5})


class LosesModel(Toy):
    def change(self, trace):
        return replace(trace, model=None)


class WrongType(Toy):
    def apply(self, trace):
        return trace.to_dict() if hasattr(trace, "to_dict") else {"ops": trace}


class Raises(Toy):
    def apply(self, trace):
        raise ZeroDivisionError("oops")


class DependsOnTheSweep(Toy):
    def change(self, trace):
        return trace.with_columns(count=trace.count * (0.5 if trace.sweep_shape else 0.6))


class DropsSweepAxes(Toy):
    def change(self, trace):
        return trace.with_columns(m=trace.m.reshape(-1, len(trace))[0])


class DependsOnTheFold(Toy):
    def change(self, trace):
        return trace.with_columns(count=np.minimum(trace.count, 10.0))


BROKEN = {
    Mutates: "changed the trace",
    WritesInPlace: "raised ValueError.*read-only",
    Random: "two results",
    WritableColumns: "column m can be changed",
    ListColumns: "column m is not a float64 array",
    ShortColumns: "its last axis must be the",
    ShortLabels: "label kernel must be a tuple",
    NaN: "mac_fraction is not finite",
    Negative: "count must be non-negative",
    NoWidth: "k must be positive",
    UnknownKernel: "no stack has a kernel for my_gemm",
    UnknownBlock: "unknown block",
    MoreWork: "more FLOPs than in the dense trace",
    WrongName: "names the method 'other'",
    NothingAchieved: "does not say which sparsity",
    AchievedAll: r"sparsity mlp must be in \[0, 1\)",
    AchievedLess: r"sparsity mlp must be in \[0, 1\)",
    AskedPercent: r"sparsity asked must be in \[0, 1\)",
    LosesModel: "lost its model",
    WrongType: "not an OpTrace",
    Raises: "apply raised ZeroDivisionError: oops",
    DependsOnTheSweep: "count of a sweep differs",
    DropsSweepAxes: "m of a sweep differs",
    DependsOnTheFold: "folded",
}


def test_a_sound_toy_passes():
    testing.check_pruning(Toy())


@pytest.mark.parametrize("toy", BROKEN)
def test_broken_methods_are_told_what_is_wrong(toy):
    with pytest.raises(ConformanceError, match=BROKEN[toy]) as caught:
        testing.check_pruning(toy())
    assert "toy" in str(caught.value)


def test_a_method_needs_a_name():
    class Nameless(Toy):
        name = ""

    with pytest.raises(ConformanceError, match="Nameless has no name"):
        testing.check_pruning(Nameless())


def test_a_kernel_of_ones_own_may_be_allowed():
    testing.check_pruning(UnknownKernel(), kernels=("my_gemm",))


#: Keys of methods and models that arXiv 2606.09080 did not run; its stack says so.
WITHOUT_RESEARCH_KERNEL = (
    "shared_head", "shared_gemm", "exit_gemm", "exit_attention", "gemm_unstructured", "column_gemm", "group_gemm_n",
    "group_gemm_k", "fine_gemm_n", "fine_gemm_k", "moe", "per_head_gemm", "mla_prefill", "mla_decode",
    "linear_attention", "all_reduce", "attention_prefill_kv8", "attention_decode_kv8",
)  # fmt: skip


# --- kernels ----------------------------------------------------------------------------------------------------------


def test_the_roofline_passes_for_every_key():
    testing.check_kernel(Roofline(), keys=CATALOGUE)


@pytest.mark.parametrize("gpu", ["h100-sxm", "rtx-pro-6000"])
@pytest.mark.parametrize("stack", STACKS)
def test_kernels_of_the_stacks_pass(stack, gpu):
    model = pis.stacks.get(stack, pis.hardware.get(gpu))
    for key in CATALOGUE:
        if stack == "paper" and key in WITHOUT_RESEARCH_KERNEL:
            with pytest.raises(UnknownNameError, match=f"has no kernel for {key}"):
                model.priced(key, "bf16")
            continue
        testing.check_kernel(model.priced(key, "bf16").model, hardware=gpu, keys=[key])


@dataclass(frozen=True)
class Twice:
    """Half as fast as the roofline."""

    def latency(self, ops, hardware, *, cache="cold"):
        return 2.0 * roofline(ops, hardware)


class Infinite(Twice):
    def latency(self, ops, hardware, *, cache="cold"):
        return np.where(ops.n == 1, np.inf, super().latency(ops, hardware))


class Nothing(Twice):
    def latency(self, ops, hardware, *, cache="cold"):
        return 0.0 * super().latency(ops, hardware)


class OpAxisFirst(Twice):
    def latency(self, ops, hardware, *, cache="cold"):
        return np.moveaxis(np.broadcast_to(super().latency(ops, hardware), ops.shape), -1, 0)


class OneNumber(Twice):
    def latency(self, ops, hardware, *, cache="cold"):
        return float(super().latency(ops, hardware).max())


class Neighbours(Twice):
    def latency(self, ops, hardware, *, cache="cold"):
        return super().latency(ops, hardware) + super().latency(ops, hardware).mean()


class Flaky(Twice):
    def latency(self, ops, hardware, *, cache="cold"):
        return super().latency(ops, hardware) * (1 + np.random.default_rng().random())


class NoCache(Twice):
    def latency(self, ops, hardware):
        return super().latency(ops, hardware)


class ChangesOps(Twice):
    def latency(self, ops, hardware, *, cache="cold"):
        ops.m.flags.writeable = True
        ops.m[...] += 1
        return np.ones(ops.shape)


class NeedsWholeTiles(Twice):
    def latency(self, ops, hardware, *, cache="cold"):
        if np.any(ops.m != np.floor(ops.m)):
            raise ValueError("m must be whole")
        return super().latency(ops, hardware)


class NoNote(Toy):
    def note(self, trace):
        return trace


def test_a_method_without_a_note_passes_and_the_trace_works_it_out():
    testing.check_pruning(NoNote())
    pruned = pis.trace("llama-3.1-8b", DECODE[0]).prune(NoNote())
    noted = pruned.applied[-1]
    assert (noted.method, float(noted.asked)) == ("toy", 0.5)
    assert {block: float(share) for block, share in noted.achieved.items()} == {"attention": 0.5, "mlp": 0.5}


BROKEN_KERNELS = {
    Infinite: "inf s for m=1, n=1",
    Nothing: "need a positive time",
    OpAxisFirst: "result (of|has) shape",
    OneNumber: "op axis last",
    Neighbours: "an op alone takes",
    Flaky: "two results",
    NoCache: "cache='cold' raised TypeError",
    ChangesOps: "changed the ops",
    NeedsWholeTiles: "raised ValueError: m must be whole",
}


def test_a_sound_kernel_passes():
    testing.check_kernel(Twice(), keys=["gemm", "attention_decode", "norm"], hardware="a100-sxm-80gb")


@pytest.mark.parametrize("kernel", BROKEN_KERNELS)
def test_broken_kernels_are_told_what_is_wrong(kernel):
    with pytest.raises(ConformanceError, match=BROKEN_KERNELS[kernel]) as caught:
        testing.check_kernel(kernel(), keys=["gemm"])
    assert kernel.__name__ in str(caught.value)


def test_unknown_key():
    with pytest.raises(UnknownNameError, match="Did you mean 'gemm'"):
        testing.check_kernel(Twice(), keys=["gem"])
