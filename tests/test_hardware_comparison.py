"""GPUs side by side: every column is what its definition says."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from cases import FAMILIES, IGNORE_PROVENANCE, STACKS
from toy import toy

import pruninfersim as pis
from pruninfersim.cost import memory
from pruninfersim.errors import InvalidInputError, UnknownNameError
from pruninfersim.questions.hardware_ranking import compare_hardware, ranking_flips

pytestmark = IGNORE_PROVENANCE
MODEL = "llama-3.1-8b"
GPUS = ("l40s", "a100-pcie-40gb", "h100-sxm", "rtx-5090")
PREFILL, DECODE = pis.Workload.prefill(1, 4096), pis.Workload.decode(32, 2048)
PRICES = {"l40s": 0.9, "a100-pcie-40gb": 1.2, "h100-sxm": 2.5}


def ask(**changes) -> pd.DataFrame:
    question = {
        "model": MODEL, "workloads": [PREFILL, DECODE], "methods": FAMILIES, "hardware": GPUS, "stack": "ideal",
    }  # fmt: skip
    return compare_hardware(**(question | changes))


@pytest.mark.parametrize("stack", STACKS)
def test_rows_equal_compare(stack):
    frame = ask(stack=stack, hardware=("h100-sxm", "rtx-pro-6000"))
    assert len(frame) == 2 * 2 * 8
    for row in frame.itertuples():
        workload = PREFILL if row.phase == "prefill" else DECODE
        dense = pis.trace(MODEL, workload)
        pruned = dense if row.method == "dense" else dense.prune(pis.pruning.get(row.method, 0.5))
        result = pis.compare(dense, pruned, hardware=row.hardware, stack=stack)
        assert row.seconds == pytest.approx(result.pruned.latency, rel=1e-12)
        assert row.tokens_per_second == pytest.approx(float(workload.tokens) / result.pruned.latency, rel=1e-12)
        assert row.bound_speedup == pytest.approx(result.bound, rel=1e-12)
        low, high = (1.0, 1.0) if row.method == "dense" else result.interval
        found = (row.estimated_low, row.estimated_speedup, row.estimated_high)
        assert found == pytest.approx((low, result.estimated, high), rel=1e-12)
        assert row.weight_bytes == float(memory.weight_memory(pruned))
        assert row.kv_bytes == float(memory.kv_memory(pruned))
        assert row.ridge_flop_per_byte == pis.hardware.get(row.hardware).ridge_point("bf16")


def test_limits_are_the_ops_that_take_most_of_the_time():
    frame = ask(stack=toy("h100-sxm"), hardware="h100-sxm", methods="low-rank")
    row = frame[(frame.phase == "decode") & (frame.method == "dense")].iloc[0]
    ops = pis.estimate(pis.trace(MODEL, DECODE), hardware="h100-sxm", stack=toy("h100-sxm")).to_frame()
    by_limit = ops.groupby("bound").seconds.sum() / ops.seconds.sum()
    assert row.limited_by == by_limit.idxmax()
    assert row.limited_share == pytest.approx(by_limit.max(), rel=1e-12)
    assert frame.query("phase == 'prefill' and method == 'dense'").limited_by.tolist() != [""]


def test_dense_is_a_row_of_its_own():
    dense = ask().query("method == 'dense'")
    assert len(dense) == 2 * len(GPUS)
    assert (dense[["estimated_speedup", "estimated_low", "estimated_high"]] == 1.0).all(axis=None)
    assert (dense.sparsity == 0.0).all()


def test_memory_fit():
    long = ask(workloads=pis.Workload.decode(64, 8192), methods=["static-width", "low-rank"])
    row = long.set_index(["hardware", "method"])
    # 8.03e9 weights of 2 B and 64 x 8192 tokens x 128 KiB of KV.
    assert row.loc["l40s", "dense"].kv_bytes == 64 * 8192 * 131072
    assert row.loc["l40s", "dense"].memory_share == pytest.approx((16.06e9 + 64 * 8192 * 131072) / 48e9, rel=1e-3)
    assert not row.loc["l40s", "dense"].fits
    assert row.loc["l40s", "static-width"].fits
    assert not row.loc["rtx-5090", "static-width"].fits
    # What does not fit is not ranked.
    assert pd.isna(row.loc["l40s", "dense"].rank_hardware)
    assert row.loc["h100-sxm", "static-width"].rank_hardware == 1


def test_ranks_are_permutations_in_order_of_the_rate():
    frame = ask(price_per_hour=PRICES)
    assert frame.fits.all()
    for _, group in frame.groupby(["phase", "method"]):
        by_rate = group.sort_values("tokens_per_second", ascending=False)
        assert by_rate.rank_hardware.tolist() == list(range(1, len(GPUS) + 1))
        priced = group.dropna(subset="price_per_hour").sort_values("cost_per_million_tokens")
        assert priced.rank_cost.tolist() == [1, 2, 3]
        assert group[group.hardware == "rtx-5090"].rank_cost.isna().all()
    for _, group in frame.groupby(["phase", "hardware"]):
        by_rate = group.sort_values("tokens_per_second", ascending=False)
        assert by_rate.rank_method.tolist() == sorted(by_rate.rank_method)


def test_cost():
    frame = ask(price_per_hour=PRICES).dropna(subset="price_per_hour")
    an_hour_of_tokens = frame.tokens_per_second * 3600
    np.testing.assert_allclose(
        frame.cost_per_million_tokens * an_hour_of_tokens / 1e6, frame.price_per_hour, rtol=1e-12
    )


def test_without_prices_there_is_no_cost():
    assert not [name for name in ask().columns if "cost" in name or "price" in name]


def flipping() -> tuple[pd.DataFrame, list[pis.HardwareProfile]]:
    """Two made-up cards: the one with bandwidth wins in decode, the one with FLOPs in prefill."""
    base = pis.hardware.get("h100-sxm")
    cards = [
        base.clone("much-bandwidth", peak={"bf16": 4e14}, peak_2of4={"bf16": 4e15}),
        base.clone("many-flops", memory_bandwidth=2.5e12, peak_2of4={"bf16": 1e15}),
    ]
    return ask(hardware=cards, methods=["static-width", "semi-structured"]), cards


def test_flips_between_workloads_and_methods():
    frame, _ = flipping()
    rank = frame.set_index(["phase", "hardware", "method"])
    assert rank.loc[("prefill", "many-flops", "dense"), "rank_hardware"] == 1
    assert rank.loc[("decode", "many-flops", "dense"), "rank_hardware"] == 2
    # 2:4 runs at its own peak: the card with the fast sparse units overtakes in prefill.
    assert rank.loc[("prefill", "much-bandwidth", "semi-structured"), "rank_hardware"] == 1
    assert frame[frame.hardware_flips].set_index(["phase", "method"]).index.unique().tolist() == [
        ("prefill", "semi-structured")
    ]
    by_definition = rank.rank_method.unstack("hardware")
    changed = by_definition["many-flops"] != by_definition["much-bandwidth"]
    assert changed.any()
    flips = rank.method_flips.unstack("hardware")
    assert flips["many-flops"].tolist() == changed.tolist()
    assert not flips["much-bandwidth"].any(), "the first card is the one that others are held against"


def test_pairs_that_flip():
    frame, _ = flipping()
    pairs = ranking_flips(frame)
    assert pairs[["first", "second"]].to_numpy().tolist() == [["much-bandwidth", "many-flops"]]
    ahead, behind = pairs.first_ahead[0], pairs.second_ahead[0]
    assert len(ahead) + len(behind) == 6
    assert "prefill, batch 1, context 4096, dense" in behind
    assert "decode, batch 32, context 2048, dense" in ahead
    methods = ranking_flips(frame, "method")
    for row in methods.itertuples():
        assert row.first_ahead
        assert row.second_ahead
    same = ranking_flips(ask(hardware=["h100-sxm", "l40s"], methods="static-depth"))
    assert same.columns.tolist() == ["first", "second", "first_ahead", "second_ahead"]
    assert len(same) == 0


def test_methods_may_be_objects():
    methods = [pis.pruning.StaticWidth(0.25), pis.pruning.StaticWidth(0.5), "static-width"]
    frame = ask(methods=methods, hardware="h100-sxm", sparsity=0.1, workloads=DECODE)
    assert frame.method.tolist() == ["dense", "static-width", "static-width (2)", "static-width (3)"]
    np.testing.assert_allclose(frame.sparsity, [0, 0.25, 0.5, 0.1], rtol=1e-12)


def test_a_missing_figure_is_a_note_and_not_a_guess():
    """A card without a 2:4 peak has no number for 2:4; one without bf16 has none at all."""
    base = pis.hardware.get("h100-sxm")
    fields = {name: getattr(base, name) for name in type(base).model_fields}
    no_sparse = pis.HardwareProfile(**(fields | {"name": "no-sparse", "peak_2of4": {}, "sources": {}}))
    old = pis.HardwareProfile(**(fields | {"name": "old", "peak": {"fp16": 1e14}, "peak_2of4": {}, "sources": {}}))
    frame = ask(hardware=[no_sparse, old], methods=["semi-structured", "static-width"], workloads=DECODE)
    rows = frame.set_index(["hardware", "method"])
    assert rows.index.tolist() == [
        (g, m) for g in ("no-sparse", "old") for m in ("dense", "semi-structured", "static-width")
    ]
    assert np.isnan(rows.loc[("no-sparse", "semi-structured"), "seconds"])
    assert "2:4" in rows.loc[("no-sparse", "semi-structured"), "note"]
    assert rows.loc[("no-sparse", "static-width"), "seconds"] > 0
    assert rows.loc["old"].seconds.isna().all()
    assert rows.loc["old"].note.str.contains("bf16").all()
    assert rows.loc["old"].rank_hardware.isna().all()
    assert not rows.loc["old"].hardware_flips.any()


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"hardware": "h100-sxn"}, UnknownNameError, "Did you mean"),
        ({"model": "llama-3.1-9b"}, UnknownNameError, "Did you mean"),
        ({"methods": "static-widht"}, UnknownNameError, "static-width"),
        ({"hardware": []}, InvalidInputError, "hardware"),
        ({"workloads": []}, InvalidInputError, "workloads"),
        ({"methods": []}, InvalidInputError, "methods"),
        ({"workloads": pis.Workload.decode([1, 2])}, InvalidInputError, "sweep"),
        ({"price_per_hour": {"b200-sxm": 3.0}}, InvalidInputError, "b200-sxm"),
        ({"price_per_hour": {"l40s": 0.0}}, InvalidInputError, "price_per_hour of l40s"),
        ({"hardware": ["l40s", "l40s"]}, InvalidInputError, "twice"),
        ({"stack": toy("h100-sxm")}, InvalidInputError, "h100-sxm"),
    ],
)
def test_wrong_input_is_named(changes, error, words):
    with pytest.raises(error, match=words):
        ask(**changes)


def test_a_cost_model_of_ones_own_describes_its_gpu():
    frame = ask(stack=toy("l40s"), hardware="l40s", methods="static-width")
    assert (frame.provenance == "calibrated").all()


def test_flips_of_what():
    with pytest.raises(InvalidInputError, match="method"):
        ranking_flips(ask(methods="static-width"), "gpu")
