"""Sites, widths and tables of choices: against brute force, and against predictions of whole models."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pandas as pd
import pytest
from cases import IGNORE_PROVENANCE

import pruninfersim as pis
from pruninfersim.errors import FileFormatError, InvalidInputError
from pruninfersim.pruning.layer_choices import LayerChoices

pytestmark = IGNORE_PROVENANCE
GPU = "h100-sxm"
LEVELED = ("static-width", "low-rank")


def small(layers: int = 3) -> pis.ModelConfig:
    return pis.models.get("llama-3.2-1b").clone("small", num_layers=layers)


def sites_of(method, stack="vendor", model=None, **changes):
    levels = {"sparsity": [0.25, 0.5]} if method in LEVELED else {}
    return pis.where_to_prune(model or small(), GPU, stack, method=method, context=4096, **levels, **changes)


def by_brute_force(sites, latency: float) -> float:
    """Least importance over every choice of a level, or none, for each layer and role."""
    units: dict[tuple[int, str], list[int]] = {}
    for i, key in enumerate(zip(sites.layer.tolist(), sites.role, strict=True)):
        units.setdefault(key, []).append(i)
    best = np.inf
    for chosen in itertools.product(*([None, *places] for places in units.values())):
        index = [i for i in chosen if i is not None]
        total = sites.dense + (sites.fixed if index else 0.0) - sites.seconds[index].sum()
        if total <= latency * (1 + 1e-6):
            best = min(best, float(sites.importance[index].sum()))
    return best


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("method", ["static-depth", "static-width", "semi-structured"])
def test_exact_choice_is_brute_force(method, share):
    random = np.random.default_rng(1)
    roles = 2 if method != "semi-structured" else len(set(sites_of(method).role))
    own = random.uniform(0.5, 2.0, size=(3, roles))
    sites = sites_of(method, importance=own)
    latency = share * sites.fastest + (1 - share) * sites.dense
    exact, greedy = sites.exact(latency), sites.greedy(latency)
    assert exact.importance == pytest.approx(by_brute_force(sites, latency), rel=1e-5)
    assert exact.importance <= greedy.importance * (1 + 1e-6)
    for choice in (exact, greedy):
        assert choice.latency <= latency * (1 + 1e-5)


@pytest.mark.parametrize("stack", ["ideal", "vendor", "vllm"])
@pytest.mark.parametrize("method", ["static-depth", "static-width", "semi-structured"])
def test_what_sites_save_adds_up_to_the_prediction_of_the_whole_model(method, stack):
    """Kernels run one after the other: the method object that does the choice is predicted on its own."""
    sites = sites_of(method, stack, importance=np.random.default_rng(2).uniform(size=3))
    choice = sites.exact(0.5 * (sites.fastest + sites.dense))
    assert 0 < len(choice.chosen) < len(sites)
    assert choice.estimate().latency == pytest.approx(choice.latency, rel=1e-9)


def test_all_sites_together_are_the_method_on_the_whole_model():
    sites = sites_of("low-rank", "ideal")
    half = sites.sparsity == 0.5
    whole = pis.speedup(model=small(), hardware=GPU, stack="ideal", phase="decode", context=4096, method="low-rank",
                        sparsity=0.5)  # fmt: skip
    assert sites.dense + sites.fixed - sites.seconds[half].sum() == pytest.approx(whole.pruned.latency)
    dense = pis.trace(small(), pis.Workload.decode())
    before, after = (pis.memory(trace).weights for trace in (dense, dense.prune(pis.pruning.LowRank(0.5))))
    assert sites.parameters[half].sum() == pytest.approx((before - after) / 2)  # two bytes each


def test_importances_of_ones_own(tmp_path):
    frame = pd.DataFrame(
        [(layer, role, 1.0 + layer) for layer in range(3) for role in ("attention", "mlp")],
        columns=["layer", "role", "importance"],
    )
    frame.to_csv(tmp_path / "own.csv", index=False)
    given = [frame, tmp_path / "own.csv", {0: 1.0, 1: 2.0, 2: 3.0}, [1.0, 2.0, 3.0], np.array([[1, 1], [2, 2], [3, 3]])]
    first, *others = (sites_of("static-width", importance=each).importance for each in given)
    for other in others:
        np.testing.assert_allclose(other, first)
    np.testing.assert_allclose(first, (1.0 + sites_of("static-width").layer) * sites_of("static-width").sparsity)
    with pytest.raises(FileFormatError, match="no importance of layer 2"):
        sites_of("static-depth", importance=frame[frame.layer < 2])
    with pytest.raises(InvalidInputError, match="importances have shape"):
        sites_of("static-depth", importance=[1.0, 2.0])


def test_what_cannot_be_reached_or_added_up_is_said():
    sites = sites_of("static-width")
    with pytest.raises(InvalidInputError, match="comes down to"):
        sites.exact(0.1 * sites.fastest)
    assert len(sites.exact(sites.dense).chosen) == 0
    with pytest.raises(InvalidInputError, match="host-bound"):
        pis.where_to_prune("llama-3.2-1b", GPU, pis.stacks.engine("transformers", host="slow"))


def test_figure_has_one_cell_per_layer_and_role():
    assert np.shape(sites_of("static-depth").plot().data[0].z) == (2, 3)


# --- widths of all layers under one budget ----------------------------------------------------------------------


def test_aligned_widths_are_brute_force():
    wanted = [2001.0, 3001.0, 2001.0]
    ask = {"hardware": GPU, "workload": pis.Workload.prefill(1, 2048), "step": 128}
    table = pis.align_widths(small(), widths=wanted, within=0.12, slack=0.05, **ask)
    assert table.parameters.sum() <= table.wanted_parameters.sum() * (1 + 1e-9)
    assert table.parameters.sum() >= 0.95 * table.wanted_parameters.sum() * (1 - 1e-6)
    options = []
    for w in wanted:
        widths = np.append(np.arange(np.ceil(0.88 * w / 128), np.floor(1.12 * w / 128) + 1) * 128, w)
        seconds = [_mlp(float(width)) for width in widths]
        options.append(list(zip(widths, seconds, strict=True)))
    best = min(
        sum(seconds for _, seconds in each)
        for each in itertools.product(*options)
        if 0.95 * sum(wanted) <= sum(width for width, _ in each) <= sum(wanted)
    )
    assert table.seconds.sum() == pytest.approx(best, rel=2e-3)


def _mlp(width: float) -> float:
    """Time of gate and up, which the stack fuses, and down of one layer, from the kernels alone."""
    both = pis.gemm_latency(2048, 2 * width, 2048, hardware=GPU)
    return float(both + pis.gemm_latency(2048, 2048, width, hardware=GPU))


# --- tables for architecture searches ---------------------------------------------------------------------------

CHOICES = {"attention": ["keep", 4, "none"], "mlp": ["keep", 4096, "linear", "none"]}


@pytest.mark.parametrize("stack", ["ideal", "vendor"])
def test_sums_over_the_table_are_whole_models(stack):
    table = pis.latency_table(small(4), GPU, stack, **CHOICES, batch=4, prompt=512, new_tokens=64)
    own = LayerChoices(attention=("none", 4, "keep", 4), mlp=(4096, "none", "linear", "keep"))
    work = pis.Workload.request(4, 512, 64)
    setup = pis.Setup(small(4), GPU, stack)
    whole = [setup.estimate(setup.trace(each).prune(own)).latency for each in (work.prefill, work.middle)]
    assert table.total(own) == pytest.approx(1e3 * (whole[0] + 63 * whole[1]), rel=1e-9)
    assert table.additive_error < 1e-9


def test_the_additive_error_is_stated_where_a_host_breaks_the_sum():
    """The longer of host and GPU is no sum over layers, so that the error of an eager engine is no rounding."""
    eager = pis.latency_table(small(4), GPU, pis.stacks.engine("transformers", host="slow"), **CHOICES)
    graph = pis.latency_table(small(4), GPU, "vllm", **CHOICES)
    assert eager.additive_error > 0.05
    assert graph.additive_error < 0.05


def test_weights_and_memory_of_the_dense_choice_are_those_of_the_model():
    model = pis.models.get("llama-3.1-8b")
    table = pis.latency_table(model, "b200-sxm", "ideal", batch=2, prompt=1000, new_tokens=1)
    dense = LayerChoices(attention=("keep",) * 32, mlp=("keep",) * 32)
    assert table.total(dense, "num_params") == pytest.approx(8.03e9, rel=2e-3)  # its model card
    step = pis.trace(model, pis.Workload.request(2, 1000, 1).middle)
    assert table.total(dense, "memory_mib") == pytest.approx(pis.memory(step).total / 2**20)


def test_files_have_the_layout_that_the_search_reads(tmp_path):
    """Keys that `run_puzzle.py` of nvidia-modelopt 0.47.0 asks for; its configurations make a model here."""
    pis.latency_table(small(), GPU, "ideal", **CHOICES, out=tmp_path / "table.json")
    (read,) = json.loads((tmp_path / "table.json").read_text())
    assert {"batch_size", "prefill_seq_len", "generation_seq_len", "n_embd"} <= set(read["args"])
    assert {"runtime_ms", "memory_mib", "num_params"} <= set(read["non_block"])
    assert read["pruninfersim_version"] == 1
    names = {"AttentionConfig": "attention", "FFNConfig": "ffn"}
    for row in read["subblocks"]:
        assert {"subblock_config", "parent_layer_index", "runtime_ms", "memory_mib", "num_params"} <= set(row)
        assert names[row["subblock_config_class"]]
    attention, ffn = (
        {row["parent_layer_index"]: row for row in read["subblocks"] if row["subblock_config_class"] == kind}
        for kind in names
    )
    assert set(attention) == set(ffn) == {0, 1, 2}
    frame = pis.latency_table(small(), GPU, "ideal", **CHOICES, out=tmp_path / "table.csv").to_frame()
    again = pd.read_csv(tmp_path / "table.csv", comment="#")
    np.testing.assert_allclose(again.runtime_ms, frame.runtime_ms)
    with pytest.raises(InvalidInputError, match=r"\.csv or \.json"):
        pis.latency_table(small(), GPU, "ideal", out=tmp_path / "table.txt")


# --- who wins where ---------------------------------------------------------------------------------------------


def test_who_wins_is_the_ratio_of_two_predictions():
    found = pis.who_wins(["low-rank", "dynamic-depth", "dense"], model="llama-3.1-8b", hardware=GPU, batch=[1, 64],
                         context=[1024, 8192])  # fmt: skip
    assert found.ratio.shape == (3, 2, 2)
    setup = pis.Setup("llama-3.1-8b", GPU)
    dense = setup.trace(pis.Workload.decode(64, 1024))
    first, second = (
        setup.estimate(dense.prune(pis.pruning.get(name, 0.5))).latency for name in ("low-rank", "dynamic-depth")
    )
    assert found.ratio[0, 1, 0] == pytest.approx(second / first)
    frame = found.to_frame()
    sure = frame[frame.winner != ""]
    assert ((sure.low > 1) == (sure.winner == sure["first"])).all()
    assert ((frame.winner == "") == ((frame.low <= 1) & (frame.high >= 1))).all()
    assert len(found.plot().data) == 3
    with pytest.raises(InvalidInputError, match="two or more"):
        pis.who_wins(["low-rank"], model="llama-3.1-8b", hardware=GPU)


def test_who_wins_changes_where_break_even_says():
    batches = [1, 2, 4, 8, 16, 32, 64, 128, 256]
    found = pis.who_wins(["dynamic-depth", "dense"], model="llama-3.1-8b", hardware=GPU, batch=batches, context=[4096])
    lead = found.ratio[0, :, 0] > 1
    crossings = pis.break_even(
        "batch", method="dynamic-depth", model="llama-3.1-8b", hardware=GPU, phase="decode", context=4096,
        between=(1, 256),
    )  # fmt: skip
    assert crossings
    for batch, wins in zip(batches, lead.tolist(), strict=True):
        before = [crossing for crossing in crossings if crossing.value <= batch]
        assert wins is (before[-1].wins_above if before else not crossings[0].wins_above)
