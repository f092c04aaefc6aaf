"""Attention on grids of shapes: monotone but for a wave, chunks between decode and prompt, splits of all heads."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from cases import IGNORE_PROVENANCE
from conftest import script

import pruninfersim as pis
from pruninfersim import hardware
from pruninfersim.errors import InvalidInputError

pytestmark = IGNORE_PROVENANCE
GPUS = ("h100-pcie", "a100-sxm-80gb", "l40s", "b200-sxm", "mi325x", "rtx-4090", "jetson-agx-orin")
HEADS = {"heads": 32, "kv_heads": 8}


@pytest.fixture(scope="module")
def grid() -> ModuleType:
    return script("grid_attention")


def seconds(**shape) -> np.ndarray:
    return np.asarray(pis.attention_latency(**shape))


@pytest.mark.parametrize("gpu", GPUS)
def test_more_work_is_faster_by_a_wave_at_most(grid: ModuleType, gpu: str) -> None:
    for what, worst in grid.judge(hardware.get(gpu), every=3):
        assert worst <= grid.SLACK, what


def test_one_more_token_of_a_prompt_does_not_empty_its_tiles() -> None:
    # 7 heads of a group x 18 tokens fill one tile of 128 rows, x 19 two: each still walks a whole block of keys.
    length = np.arange(1, 129)
    time = seconds(
        phase="prefill", query_len=length, context=length, heads=14, kv_heads=2, head_dim=256, hardware="h100-pcie"
    )
    assert (np.diff(time) > -1e-12).all()


@pytest.mark.parametrize("gpu", ["h100-sxm", "h200-sxm", "b200-sxm"])
def test_decode_of_flash_attention_3_never_gets_faster_with_a_key(gpu: str) -> None:
    keys = np.concatenate([np.arange(1, 3000), np.arange(16000, 17000)])
    for batch in (1, 4, 19, 64):
        for heads, kv_heads in ((32, 8), (7, 1), (71, 71)):
            time = seconds(phase="decode", batch=batch, context=keys, heads=heads, kv_heads=kv_heads, hardware=gpu)
            assert (time[1:] >= time[:-1] * (1 - 1e-12)).all()


# --- short chunks ---------------------------------------------------------------------------------------------------


def test_sixteen_queries_on_many_keys_cost_about_what_one_costs() -> None:
    # The keys and values are read once; 16 queries of 4 heads fill half of one tile.
    one = seconds(phase="decode", context=131072, hardware="h100-sxm", **HEADS)
    chunk = seconds(phase="prefill", query_len=[1, 2, 16, 32], context=131072, hardware="h100-sxm", **HEADS)
    np.testing.assert_allclose(chunk, one, rtol=0.01)


@pytest.mark.parametrize("gpu", ["h100-sxm", "a100-sxm-80gb", "l40s", "b200-sxm"])
@pytest.mark.parametrize("context", [8192, 131072])
def test_chunks_grow_from_a_decode_step_to_a_prompt(gpu: str, context: int) -> None:
    queries = np.unique(np.round(np.geomspace(1, context, 60)))
    time = seconds(phase="prefill", query_len=queries, context=context, hardware=gpu, **HEADS)
    step = seconds(phase="decode", context=context, hardware=gpu, **HEADS)
    assert time[0] == pytest.approx(step, rel=0.01)
    assert (time[1:] > time[:-1] * 0.95).all()
    # Never a jump by more than the queries grow, and a tile is at most half full.
    assert (time[1:] / time[:-1] <= 2.1).all()
    flops = 4 * queries * (context - queries / 2) * 128 * 32
    assert (time >= flops / hardware.get(gpu).peak_flops("bf16")).all()


def test_a_prompt_is_priced_as_it_was_timed() -> None:
    from pruninfersim import stacks
    from pruninfersim.kernels.attention_chunk import ChunkAttention

    gpu = hardware.get("h100-sxm")
    model = stacks.get("vendor", gpu).priced("attention_prefill", "bf16").model
    assert isinstance(model, ChunkAttention)
    ops = pis.trace("llama-3.1-8b", pis.Workload.prefill(np.array([1, 8]), np.array([[64], [4096]])))
    row = ops.select(ops.mask(names=["attention"]))
    np.testing.assert_allclose(model.latency(row, gpu), model.whole.latency(row, gpu), rtol=1e-12)


# --- heads that share no keys ---------------------------------------------------------------------------------------


def test_long_contexts_of_ungrouped_heads_are_as_published() -> None:
    # DuoAttention, full attention: Llama-2-7B, one sequence on an A100, figure labels rounded to 1 ms
    # (github.com/mit-han-lab/duo-attention).
    published = {20000: 20.0, 40000: 26.0, 60000: 32.0, 80000: 39.0, 100000: 45.0, 120000: 51.0}
    trace = pis.trace("llama-2-7b", pis.Workload.decode(batch=1, context=np.array(list(published))))
    found = 1e3 * pis.estimate(trace, hardware="a100-sxm-80gb").latency
    errors = np.abs(found / np.array(list(published.values())) - 1)
    assert errors.mean() < 0.16
    assert errors.max() < 0.2


def test_pruned_keys_of_ungrouped_heads_are_as_published() -> None:
    # The same source: a quarter of the heads keep all keys, the others a few hundred.
    published = {20000: 1.111, 40000: 1.444, 60000: 1.684, 80000: 1.857, 100000: 1.957, 120000: 2.125}
    keys = np.array(list(published))
    whole = pis.estimate(
        pis.trace("llama-2-7b", pis.Workload.decode(batch=1, context=keys)), hardware="a100-sxm-80gb"
    ).latency
    one = {"phase": "decode", "hardware": "a100-sxm-80gb"}
    saved = seconds(context=keys, heads=32, **one) - seconds(context=keys, heads=8, **one)
    pruned = whole - 32 * (saved - seconds(context=320, heads=24, **one))
    np.testing.assert_allclose(whole / pruned, list(published.values()), rtol=0.2)


def test_more_heads_of_their_own_take_longer() -> None:
    time = seconds(phase="decode", context=100_000, heads=np.array([8, 16, 32]), hardware="a100-sxm-80gb")
    assert (time[1:] / time[:-1] > 1.5).all()


# --- precision of the cache -----------------------------------------------------------------------------------------


def test_only_caches_that_were_timed_are_priced() -> None:
    shape = {"phase": "decode", "context": 4096, "hardware": "h100-sxm", **HEADS}
    with pytest.raises(InvalidInputError, match=r"priced in bf16, fp16.*got dtype='fp8'"):
        pis.attention_latency(dtype="fp8", **shape)
    with pytest.raises(InvalidInputError, match=r"kv_dtype must be 'bf16'.*fp8 or int8.*got 'nvfp4'"):
        pis.attention_latency(kv_dtype="nvfp4", **shape)
    assert pis.attention_latency(kv_dtype="bf16", **shape) == pis.attention_latency(**shape)


# FlashAttention 2 reads no narrow cache: other cards change the library as well.
@pytest.mark.parametrize("gpu", ["h100-sxm", "h200-sxm", "b200-sxm"])
def test_half_of_the_bytes_is_more_than_half_of_the_time(gpu: str) -> None:
    # Kernels convert what they read: a cache of 8 bit gains in long steps, never the factor of its bytes.
    shape = {"phase": "decode", "batch": 64, "context": 32768, "hardware": gpu, **HEADS}
    gain = pis.attention_latency(**shape) / pis.attention_latency(kv_dtype="fp8", **shape)
    assert 1.0 < gain < 2.0
    least = 2 * 64 * 32768 * 8 * 128 / hardware.get(gpu).memory_bandwidth
    assert pis.attention_latency(kv_dtype="fp8", **shape) >= least


def test_a_step_over_a_narrow_cache_runs_the_kernels_that_read_one() -> None:
    work = pis.Workload.decode(batch=64, context=32768)
    step = pis.trace("llama-3.1-8b", work).prune(pis.pruning.Quantized("bf16", kv="fp8"))
    rows = pis.estimate(step, hardware="h100-sxm").to_frame().set_index("name")
    alone = pis.attention_latency(phase="decode", batch=64, context=32768, kv_dtype="fp8", hardware="h100-sxm", **HEADS)
    assert rows.loc["attention", "seconds"] == pytest.approx(32 * float(alone), rel=1e-3)


# --- windows --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gpu", "rows", "packs"), [("h100-sxm", 128, True), ("l40s", 64, False), ("b200-sxm", 128, False)]
)
def test_a_windowed_prompt_walks_the_blocks_that_a_loop_visits(gpu: str, rows: int, packs: bool) -> None:
    from dataclasses import replace

    from pruninfersim.calibration import nearest
    from pruninfersim.kernels.attention_prefill import attention_ops

    profile, group, window, length, block = hardware.get(gpu), 4, 1000, 6000, 128
    span = rows // group if packs else rows
    tiles = -(-length // span)
    visited = 0
    for tile in range(tiles):
        first, last = tile * span, min((tile + 1) * span, length)
        visited += -(-last // block) - max(first - window + 1, 0) // block
    kernel = nearest.nearest_calibration("attention_prefill", "bf16", profile)[0].kernel
    bare = replace(kernel, tile_start=0.0, tail=0.0, power_droop=0.0, l2_feed=1e30, compute_efficiency=1.0)
    heads = profile.sm_count
    shape = {"batch": heads, "heads": group, "kv_heads": 1, "head_dim": 128, "q_len": length, "kv_len": length}
    frame = pd.DataFrame([{**shape, "window": window, "dtype": "bf16"}])
    work = bare.compute(attention_ops(frame, "prefill"), profile).item()
    time = 4 * rows * block * 128 / (profile.peak_flops("bf16") / profile.sm_count)
    assert work / time == pytest.approx(visited * (1 if packs else group), rel=0.03)


def test_flash_attention_2_walks_a_window_head_by_head() -> None:
    # One CTA per query head and sequence walks the window: 4 and 32 heads on one KV group take as long on idle SMs.
    shape = {"phase": "decode", "context": 65536, "kv_heads": 4, "window": 4096, "hardware": "l40s", "head_dim": 128}
    few, many = np.asarray(pis.attention_latency(heads=np.array([4, 32]), **shape))
    assert many == pytest.approx(few, rel=0.05)
    # Split over all SMs, all of 4096 keys take much less.
    assert pis.attention_latency(phase="decode", context=4096, heads=32, kv_heads=4, hardware="l40s") < 0.5 * many


# --- the stack ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gpu", ["a100-sxm-80gb", "h100-sxm", "l40s", "rtx-pro-6000-server"])
def test_stacks_split_as_libraries_do_and_fits_as_what_was_timed(gpu: str) -> None:
    from pruninfersim import stacks
    from pruninfersim.calibration import nearest

    profile = hardware.get(gpu)
    model = stacks.get("vendor", profile).priced("attention_decode", "bf16").model
    fitted, _ = nearest.nearest_calibration("attention_decode", "bf16", profile)
    assert (model.splits, fitted.kernel.splits) == ("any", "vllm")
    assert nearest.starting_kernel("attention_decode", "bf16", profile) == model


@pytest.mark.parametrize(("gpu", "family"), [("b200-sxm", "static-depth"), ("mi325x", "dynamic-depth")])
@pytest.mark.parametrize("stack", ["vendor", "paper"])
def test_a_step_does_not_get_faster_with_a_sequence_or_a_key(gpu: str, family: str, stack: str) -> None:
    rng = np.random.default_rng(0)
    batch, context = rng.integers(1, 129, 100), np.round(np.exp(rng.uniform(np.log(64), np.log(131072), 100)))
    step = np.array([[0, 0], [1, 0], [0, 1]])
    for model in ("llama-3.1-8b", "qwen2.5-0.5b"):
        work = pis.Workload.decode(batch=batch + step[:, :1], context=context + step[:, 1:])
        found = pis.estimate(
            pis.trace(model, work).prune(pis.pruning.get(family, 0.5)), hardware=gpu, stack=stack
        ).latency
        # Not by more than a wave of the attention of all layers, some percent of the shortest steps.
        assert (found[1:] > 0.97 * found[0]).all()
