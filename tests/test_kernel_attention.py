"""Attention models: closed forms, slow scalar oracles, invariants, pruned attention."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruninfersim import attention_latency, calibration, hardware
from pruninfersim.calibration import kinds, nearest, timings
from pruninfersim.errors import InvalidInputError, MissingValueError
from pruninfersim.kernels.attention_decode import DecodeAttention, least_blocks, splits_fa2
from pruninfersim.kernels.attention_prefill import PrefillAttention, algorithm
from pruninfersim.kernels.attention_pruned import BlockSparseAttention, GatheredAttention
from pruninfersim.kernels.base import ceilings, parameters
from pruninfersim.kernels.kv_append import KVAppend
from pruninfersim.trace import OpTrace, trace
from pruninfersim.workload import Workload

GPU = hardware.get("a100-sxm-80gb")
TIMED = ["a100-sxm-80gb", "h100-sxm", "l40s", "rtx-pro-6000-server"]
UNTIMED = ["h200-sxm", "b200-sxm", "rtx-4090", "l4"]
Kernel = PrefillAttention | DecodeAttention


def fitted(phase: str, gpu: str) -> Kernel:
    kernel: Kernel = nearest.nearest_calibration(f"attention_{phase}", "bf16", hardware.get(gpu))[0].kernel
    return kernel


def ops(phase: str, batch=1, heads=32, kv_heads=8, queries=1, keys=1024, share=None, width=128) -> OpTrace:
    batch, heads, kv_heads, queries, keys = (
        np.asarray(x, dtype=float) for x in (batch, heads, kv_heads, queries, keys)
    )
    if share is None:
        share = 1.0 - queries / (2.0 * np.maximum(queries, keys)) if phase == "prefill" else 1.0
    row = {"m": queries, "n": keys, "k": width, "batch": batch * heads, "b_batch": batch * kv_heads, "sequences": batch}
    return OpTrace.from_rows([{**row, "kernel": f"attention_{phase}", "gemms": 2.0, "mac_fraction": share}])


def scalar_splits_fa2(tiles: int, blocks: int, sms: int) -> int:
    """``num_splits_heuristic`` of FlashAttention 2, as its C++ source reads, for two CTAs per SM."""
    slots = 2 * sms
    if tiles >= 0.8 * slots:
        return 1
    efficiency = []
    for parts in range(1, min(128, slots, blocks) + 1):
        eligible = parts == 1 or -(-blocks // parts) != -(-blocks // (parts - 1))
        waves = tiles * parts / slots
        efficiency.append(waves / math.ceil(waves) if eligible else 0.0)
    return next(n for n, e in enumerate(efficiency, start=1) if e > 0 and e >= 0.85 * max(efficiency))


def scalar_prefill(
    k: PrefillAttention, batch: int, heads: int, kv: int, s: int, gpu: hardware.HardwareProfile
) -> float:
    """A causal prompt, replayed, block by block in plain Python."""
    fa3, group = k.algorithm == "fa3", heads // kv
    rows, per = (128, kv) if fa3 else (64, heads)
    tiles = math.ceil(s * (group if fa3 else 1) / rows)
    span = rows / 128 / (group if fa3 else 1)
    nk = math.ceil(s / 128)
    blocks = nk if tiles == 1 else min(max((tiles * span) * 0.5 + max(span, 1) / 2, 1), nk)
    qo, kv_bytes = 2 * batch * heads * s * 128 * 2.0, 2 * batch * kv * s * 128 * 2.0
    bw, sms = gpu.memory_bandwidth, gpu.sm_count
    ctas = batch * per * tiles
    block_time = 4 * rows * 128 * 128 / (gpu.peak_flops("bf16") * k.compute_efficiency / sms)
    odd = 1.5 if fa3 and 128 % group else 1.0
    full = min(s * (group if fa3 else 1), rows) * 512.0
    start = k.tile_start + odd * full / (gpu.clock * k.l2_feed)
    compute = math.ceil(ctas / sms) * (start + block_time * blocks)
    compute += start + k.tail * block_time * min(nk, 2 * blocks)
    compute *= 1 + k.power_droop * compute / (compute + 1e-2)
    miss = 1 / (1 + (k.l2_share * gpu.l2_size / (qo + 2 * kv_bytes)) ** 8)
    memory = miss * (qo + kv_bytes) / (bw * k.memory_efficiency)
    write = 2 * kv_bytes * (miss / (bw * k.memory_efficiency) + (1 - miss) / (sms * gpu.clock * k.l2_feed))
    write = math.hypot(write, k.kv_write * batch * s)
    return k.launch + (compute**3 + memory**3) ** (1 / 3) + write


def scalar_decode(
    k: DecodeAttention, batch: int, heads: int, kv: int, keys: int, gpu: hardware.HardwareProfile
) -> float:
    """One replayed decode step in plain Python, wave by wave."""
    fa3, grouped, sms, bw = k.algorithm == "fa3", heads > kv, gpu.sm_count, gpu.memory_bandwidth
    blocks, tiles, step = math.ceil(keys / 128), batch * kv, k.block_latency

    def least(cards: float) -> float:
        share = 1.1 * tiles / cards if fa3 else tiles / (2 * cards) if tiles < 1.6 * cards else 1.0
        return min(max(share * blocks, blocks / (32 if fa3 else 128), 1), blocks)

    parts = math.ceil(blocks / math.ceil(least(sms)))
    if k.splits == "vllm" and not fa3:
        parts = scalar_splits_fa2(tiles, blocks, sms) if grouped else 1
    size, rows = batch * kv * keys * 512.0, batch * heads
    partial = parts * rows * 129 * 4 if parts > 1 else 0
    miss = 1 / (1 + (k.l2_share * gpu.l2_size / (size + rows * 512 + partial)) ** 24)
    dram, feed = size * miss / (bw * k.memory_efficiency), size / (bw * 10)
    one_part = max(k.combine_part, 2 * rows * 129 * 4 / (bw * 10))
    time = k.launch + k.row * rows + k.ramp * dram / (dram + k.ramp)
    if grouped and not fa3:
        time += k.swap * (1.0 if batch > 1 else 0.2)
    if k.splits == "vllm":
        per_cta = math.ceil(blocks / parts)
        parts = math.ceil(blocks / per_cta)
        ctas = left = tiles * parts
        time += math.ceil(ctas / sms) * k.tile_start
        while left > 1e-9:
            time += ((min(left, sms) / ctas * dram) ** 6 + (step * per_cta + feed / ctas * sms) ** 6) ** (1 / 6)
            left -= sms
        return time + min(parts - 1, 1) * (k.combine + one_part * parts)

    def even(waves: float, walked: float) -> float:
        waves = math.ceil(waves - 1e-9)
        return waves * k.tile_start + (dram**6 + (waves * step * walked + feed) ** 6) ** (1 / 6)

    def split(parts: float, cards: float) -> float:
        return even(tiles * parts / cards, blocks / parts) + k.combine + one_part * parts

    walk, cost = (1 if fa3 else 2) * step * blocks, 2 ** (5 / 6) * one_part
    most = math.sqrt(walk / cost)
    if dram > 1e-3 * walk:
        most = min(most, (walk**6 / (cost * dram**5)) ** (1 / 7))
    per_cta = min(math.ceil(max(least(sms), math.sqrt(0.25 + (blocks / max(most, 1)) ** 2) - 0.5)), blocks)
    before = blocks / (blocks - 1) * (1.1 if fa3 else 0.5) if blocks > 1 else math.inf
    stream = even(max(tiles / sms, 1 / max(before, 0.0 if fa3 else 0.625) + 2e-9), blocks)
    one_wave = max(per_cta, min(math.ceil(tiles * blocks / sms), blocks))
    stream = min(stream, *(split(blocks / walked, sms) for walked in (per_cta, one_wave) if walked < blocks), math.inf)
    if least(132) < blocks:
        stream = max(stream, split(blocks / least(132), max(sms, 132)))
    return time + stream


# --- oracles ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sms", [58, 108, 188])
def test_split_rule_of_flash_attention_2(sms: int) -> None:
    tiles, blocks = (x.ravel() for x in np.meshgrid([1, 3, 8, 32, 64, 100, 172, 173, 512], [1, 2, 3, 7, 64, 100, 1024]))
    want = [scalar_splits_fa2(int(t), int(b), sms) for t, b in zip(tiles, blocks, strict=True)]
    np.testing.assert_array_equal(splits_fa2(tiles.astype(float), blocks.astype(float), sms), want)


@given(tiles=st.integers(1, 2000), blocks=st.integers(1, 2000), sms=st.integers(1, 200))
def test_split_rules_keep_their_limits(tiles: int, blocks: int, sms: int) -> None:
    a, b = np.array([float(tiles)]), np.array([float(blocks)])
    parts = splits_fa2(a, b, sms)[0]
    assert parts == scalar_splits_fa2(tiles, blocks, sms)
    assert 1 <= parts <= min(128, blocks)
    for name, most in (("fa2", 128), ("fa3", 32)):
        least = least_blocks(a, b, name, sms)[0]
        assert max(1, blocks / most) - 1e-9 <= least <= blocks
        # More tiles or blocks never mean fewer blocks of a CTA.
        assert least_blocks(a + 1, b, name, sms)[0] >= least
        assert least_blocks(a, b + 1, name, sms)[0] >= least


@pytest.mark.parametrize("gpu", TIMED)
@pytest.mark.parametrize(
    "shape", [(1, 32, 8, 100), (3, 40, 8, 1000), (16, 8, 8, 512), (2, 64, 4, 16384), (128, 32, 32, 64)]
)
def test_prefill_equals_the_scalar_formula(gpu: str, shape: tuple[int, int, int, int]) -> None:
    kernel, profile, (batch, heads, kv, length) = fitted("prefill", gpu), hardware.get(gpu), shape
    assert isinstance(kernel, PrefillAttention)
    got = kernel.latency(ops("prefill", batch, heads, kv, length, length), profile, cache="replayed")
    assert got.item() == pytest.approx(scalar_prefill(kernel, *shape, profile), rel=1e-9)


@pytest.mark.parametrize("gpu", TIMED)
@pytest.mark.parametrize(
    "shape", [(1, 32, 8, 100), (3, 40, 8, 5000), (16, 8, 8, 4096), (2, 64, 4, 131072), (128, 32, 8, 777)]
)
def test_decode_equals_the_scalar_formula(gpu: str, shape: tuple[int, int, int, int]) -> None:
    kernel, profile, (batch, heads, kv, keys) = fitted("decode", gpu), hardware.get(gpu), shape
    assert isinstance(kernel, DecodeAttention)
    assert kernel.splits == "vllm"
    for model in (kernel, replace(kernel, splits="any")):
        got = model.latency(ops("decode", batch, heads, kv, 1, keys), profile, cache="replayed")
        assert got.item() == pytest.approx(scalar_decode(model, *shape, profile), rel=1e-9)


def test_blocks_of_a_causal_prompt_are_those_that_a_tile_loop_visits() -> None:
    # Without start-up, tail, memory and power, T x rate counts blocks: sum over tiles of the blocks they see.
    bare = {"tile_start": 0.0, "tail": 0.0, "power_droop": 0.0, "l2_feed": 1e30, "compute_efficiency": 1.0}
    for name, rows in (("fa2", 64), ("fa3", 128)):
        kernel = PrefillAttention(algorithm=name, **bare)
        for tiles in (2, 5, 64):
            length = tiles * rows
            visited = sum(math.ceil((tile + 1) * rows / 128) for tile in range(tiles))
            # One head per SM, so that every wave is full.
            work = kernel.compute(ops("prefill", GPU.sm_count, 1, 1, length, length), GPU).item()
            block = 4 * rows * 128 * 128 / (GPU.peak_flops("bf16") / GPU.sm_count)
            assert work / block == pytest.approx(visited, rel=0.03)


# --- closed forms and asymptotics ---------------------------------------------------------------------------------


def test_flops_count_half_of_a_causal_square() -> None:
    full = ops("prefill", 2, 32, 8, 512, 512, share=1.0).flops
    assert full.item() == 4 * 2 * 32 * 512 * 512 * 128
    assert ops("prefill", 2, 32, 8, 512, 512).flops.item() == full.item() / 2


@pytest.mark.parametrize("gpu", TIMED)
def test_long_prompts_are_quadratic_at_the_fitted_rate(gpu: str) -> None:
    profile, kernel = hardware.get(gpu), fitted("prefill", gpu)
    length = np.array([131072, 262144])
    short, long = kernel.latency(ops("prefill", 4, 32, 8, length, length), profile)[:, 0]
    assert long / short == pytest.approx(4.0, rel=0.01)
    rate = 4 * 4 * 32 * 262144**2 * 128 / 2 / long / profile.peak_flops("bf16")
    limit = kernel.compute_efficiency / (1 + kernel.power_droop)
    assert 0.9 * limit < rate < limit


@pytest.mark.parametrize("gpu", TIMED)
def test_long_contexts_are_linear_at_the_fitted_bandwidth(gpu: str) -> None:
    profile, kernel = hardware.get(gpu), fitted("decode", gpu)
    # As many KV heads as fill whole waves, grouped, without a split.
    keys, batch = np.array([100_000, 400_000]), 2 * profile.sm_count
    short, long = kernel.latency(ops("decode", batch, 32, 8, 1, keys), profile)[:, 0]
    slope = (long - short) / (300_000 * batch * 8 * 512 / (profile.memory_bandwidth * kernel.memory_efficiency))
    assert slope == pytest.approx(1.0, abs=0.02)


def test_a_chunk_costs_the_part_of_the_prompt_that_it_adds() -> None:
    kernel = fitted("prefill", "a100-sxm-80gb")
    whole = kernel.latency(ops("prefill", 4, 32, 8, 8192, 8192), GPU).item()
    first = kernel.latency(ops("prefill", 4, 32, 8, 4096, 4096), GPU).item()
    second = kernel.latency(ops("prefill", 4, 32, 8, 4096, 8192), GPU).item()
    assert first + second == pytest.approx(whole, rel=0.05)
    assert second > 2.5 * first


def test_a_window_makes_a_long_prompt_linear() -> None:
    kernel, window = fitted("prefill", "h100-sxm"), 1024.0
    length = np.array([32768.0, 65536.0])
    share = window * (length - window / 2) / length**2
    one, two = kernel.latency(
        ops("prefill", 1, 32, 8, length, length, share=share[:, None][:, 0]), hardware.get("h100-sxm")
    )[:, 0]
    assert two / one == pytest.approx(2.0, rel=0.05)
    assert one < 0.1 * kernel.latency(ops("prefill", 1, 32, 8, 32768, 32768), hardware.get("h100-sxm")).item()


def test_a_full_mask_costs_about_twice_a_causal_one() -> None:
    kernel = fitted("prefill", "l40s")
    causal, full = (
        kernel.latency(ops("prefill", 4, 32, 8, 8192, 8192, share=share), hardware.get("l40s")).item()
        for share in (0.5, 1.0)
    )
    assert full / causal == pytest.approx(2.0, rel=0.05)


# --- invariants ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gpu", TIMED + UNTIMED)
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_cold_is_at_least_the_roofline_and_finite(gpu: str, phase: str) -> None:
    profile, kernel = hardware.get(gpu), fitted(phase, gpu)
    batch = np.array([1, 3, 64, 256])[:, None, None]
    heads = np.array([1, 7, 32, 128])[:, None]
    keys = np.array([1.0, 2, 127, 128, 4096, 1e6])
    queries = np.minimum(keys, 131072) if phase == "prefill" else 1
    for kv_heads in (np.ones_like(heads), heads):
        shapes = ops(phase, batch, heads, kv_heads, queries, keys)
        cold = kernel.latency(shapes, profile)
        assert cold.shape == (4, 4, 6, 1)
        assert np.isfinite(cold).all()
        assert (cold >= ceilings(shapes, profile)[1]).all()
        assert np.isfinite(kernel.latency(shapes, profile, cache="replayed")).all()


@given(
    phase=st.sampled_from(["prefill", "decode"]),
    gpu=st.sampled_from(TIMED),
    batch=st.floats(1, 256),
    heads=st.floats(1, 128),
    group=st.floats(1, 64),
    queries=st.floats(1, 131072),
    extra=st.floats(0, 1e6),
)
def test_any_positive_shape(
    phase: str, gpu: str, batch: float, heads: float, group: float, queries: float, extra: float
) -> None:
    profile, kernel = hardware.get(gpu), fitted(phase, gpu)
    shape = ops(phase, batch, heads, heads / group, queries if phase == "prefill" else 1.0, queries + extra)
    cold = kernel.latency(shape, profile).item()
    assert math.isfinite(cold)
    assert cold >= ceilings(shape, profile)[1].item()
    smooth = kernel.without_quantisation().latency(shape, profile).item()
    assert math.isfinite(smooth)
    assert smooth >= ceilings(shape, profile)[1].item()


@pytest.mark.parametrize("gpu", TIMED)
@pytest.mark.parametrize(("phase", "queries", "keys"), [("prefill", 256, 256), ("decode", 1, 100)])
def test_more_sequences_never_take_less_time_up_to_one_wave(gpu: str, phase: str, queries: int, keys: int) -> None:
    batch = np.arange(1, 129)
    profile = hardware.get(gpu)
    seconds = fitted(phase, gpu).latency(ops(phase, batch, 32, 8, queries, keys), profile)[:, 0]
    assert (seconds[1:] >= seconds[:-1]).all()
    assert seconds[-1] > 2 * seconds[0]


@pytest.mark.parametrize("gpu", TIMED)
def test_fewer_heads_never_take_more_than_a_wave_longer(gpu: str) -> None:
    profile, kernel = hardware.get(gpu), fitted("prefill", gpu)
    heads = np.arange(1, 33)
    seconds = kernel.latency(ops("prefill", 4, heads * 4, heads, 2048, 2048), profile)[:, 0]
    assert (np.diff(seconds) >= -1e-12).all()


def test_replayed_finds_a_small_cache_in_l2_and_cold_does_not() -> None:
    kernel = fitted("decode", "rtx-pro-6000-server")
    profile = hardware.get("rtx-pro-6000-server")
    small, large = (ops("decode", 32, 32, 8, 1, keys) for keys in (512, 16384))
    assert kernel.latency(small, profile, cache="replayed") < 0.9 * kernel.latency(small, profile)
    np.testing.assert_allclose(
        kernel.latency(large, profile, cache="replayed"), kernel.latency(large, profile), rtol=1e-3
    )


def test_replayed_prefill_holds_the_kv_write_and_cold_leaves_it_to_its_own_kernel() -> None:
    kernel = fitted("prefill", "a100-sxm-80gb")
    assert isinstance(kernel, PrefillAttention)
    shape = ops("prefill", 16, 8, 1, 64, 64)
    cold, replayed = kernel.latency(shape, GPU).item(), kernel.latency(shape, GPU, cache="replayed").item()
    assert replayed > cold
    # One CTA of as many threads as a token has keys, at most 512: four KV heads of 128.
    four, one = (
        KVAppend(kernel.kv_write)
        .latency(OpTrace.from_rows([{"kernel": "kv_append", "m": 16 * 64.0, "n": width, "k": width}]), GPU)
        .item()
        for width in (1024.0, 256.0)
    )
    assert four == pytest.approx(kernel.kv_write * 1024, rel=0.1)
    assert one == pytest.approx(four / 4, rel=0.05)
    alone = four
    wide = OpTrace.from_rows([{"kernel": "kv_append", "m": 16 * 64.0, "n": 65536.0, "k": 65536.0}])
    assert KVAppend(kernel.kv_write).latency(wide, GPU).item() > 2 * alone


def test_n_dimensional_sweeps_equal_single_shapes() -> None:
    profile = hardware.get("h100-sxm")
    batch, keys = np.array([1, 8, 64]), np.array([128, 5000])
    for phase in ("prefill", "decode"):
        kernel = fitted(phase, "h100-sxm")
        grid = kernel.latency(ops(phase, batch[:, None], 40, 8, keys if phase == "prefill" else 1, keys), profile)
        assert grid.shape == (3, 2, 1)
        for i, b in enumerate(batch):
            for j, n in enumerate(keys):
                one = kernel.latency(ops(phase, b, 40, 8, n if phase == "prefill" else 1, n), profile)
                assert one.shape == (1,)
                assert grid[i, j, 0] == one[0]


def test_chunks_do_not_change_the_result() -> None:
    rng = np.random.default_rng(0)
    shapes = ops("decode", rng.integers(1, 129, 40000), 32, 8, 1, rng.integers(1, 20000, 40000))
    whole = fitted("decode", "l40s").latency(shapes, hardware.get("l40s"))[:, 0]
    part = shapes.with_columns(**{n: getattr(shapes, n)[20000:20010] for n in ("batch", "b_batch", "sequences", "n")})
    np.testing.assert_array_equal(
        whole[20000:20010], fitted("decode", "l40s").latency(part, hardware.get("l40s"))[:, 0]
    )


def test_more_than_one_query_shares_the_cache_read() -> None:
    for gpu in TIMED:
        kernel, profile = fitted("decode", gpu), hardware.get(gpu)
        one, four = (kernel.latency(ops("decode", 64, 32, 8, q, 8192), profile).item() for q in (1, 4))
        assert one <= four * 1.05
        assert four < 3 * one


def test_algorithm_follows_from_the_architecture() -> None:
    names = {
        "h100-sxm": "fa3",
        "h200-sxm": "fa3",
        "b200-sxm": "trtllm",
        "a100-sxm-80gb": "fa2",
        "rtx-5090": "fa2",
        "l4": "fa2",
    }
    for gpu, want in names.items():
        profile = hardware.get(gpu)
        assert algorithm(profile) == want
        for phase in ("prefill", "decode"):
            assert fitted(phase, gpu).algorithm == want
            assert kinds.get(f"attention_{phase}").start(profile).algorithm == want


def test_messages() -> None:
    for kernel in (PrefillAttention, DecodeAttention):
        with pytest.raises(
            InvalidInputError, match=r"algorithm must be one of fa2, fa3, fa3-8bit, trtllm, flashinfer; got 'fa4'"
        ):
            kernel(algorithm="fa4")
    blank = hardware.HardwareProfile(**{**{f: getattr(GPU, f) for f in type(GPU).model_fields}, "l2_size": None})
    for phase in ("prefill", "decode"):
        kernel = fitted(phase, "a100-sxm-80gb")
        shape = ops(phase, 1, 32, 8, 16 if phase == "prefill" else 1, 16)
        with pytest.raises(MissingValueError, match=r"no L2 size.*cold"):
            kernel.latency(shape, blank, cache="replayed")
        assert kernel.latency(shape, blank) > 0


# --- calibration --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_a_fit_finds_the_parameters_that_made_the_timings(phase: str) -> None:
    kind, profile = f"attention_{phase}", hardware.get("h100-sxm")
    import pandas as pd

    shapes = [
        {"batch": b, "heads": h, "kv_heads": kv, "head_dim": 128, "q_len": n if phase == "prefill" else 1, "kv_len": n}
        for b in (1, 4, 16, 64, 128)
        for h, kv in ((32, 8), (16, 16), (64, 4))
        for n in (32, 128, 500, 1024, 4096, 16384, 65536)
        if b * n <= 2**20
    ]
    frame = pd.DataFrame(shapes).assign(gpu="h100-sxm", dtype="bf16", latency_us=1.0)
    truth = fitted(phase, "h100-sxm")
    frame["latency_us"] = truth.latency(timings.as_ops(kind, frame), profile, cache="replayed") * 1e6
    start = kinds.get(kind).start(profile)
    if isinstance(truth, DecodeAttention):
        start = replace(start, splits=truth.splits)
    found = calibration.fit_kernel(kind, frame, profile, start=start)
    again = found.latency(timings.as_ops(kind, frame), profile, cache="replayed") * 1e6
    np.testing.assert_allclose(again, frame["latency_us"], rtol=0.03)
    assert found.algorithm == "fa3"
    for name in ("launch", "memory_efficiency"):
        assert getattr(found, name) == pytest.approx(getattr(truth, name), rel=0.1)


@pytest.mark.parametrize("gpu", TIMED)
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_shipped_calibrations_are_physical(gpu: str, phase: str) -> None:
    found, carried = nearest.nearest_calibration(f"attention_{phase}", "bf16", hardware.get(gpu))
    assert not carried
    assert found.held_out_error < 0.045
    assert len(parameters(found.kernel)) <= 12
    for name, spec in parameters(found.kernel).items():
        assert spec.metadata["lower"] < getattr(found.kernel, name) < spec.metadata["upper"]
    assert found.kernel.memory_efficiency < 1


# --- pruned attention ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_gathered_attention_is_dense_attention_of_fewer_tokens(phase: str) -> None:
    from pruninfersim.pruning.dynamic_depth import DynamicDepth

    work = Workload.prefill(2, 4096) if phase == "prefill" else Workload.decode(batch=64, context=4096)
    dense, pruned = trace("llama-3.1-8b", work), trace("llama-3.1-8b", work).prune(DynamicDepth(0.5))
    kernel, profile = fitted(phase, "h100-sxm"), hardware.get("h100-sxm")
    gathered = GatheredAttention(kernel, phase)
    row = pruned.select(pruned.mask(kernels=[f"token_attention_{phase}"]))
    whole = dense.select(dense.mask(kernels=[f"attention_{phase}"]))
    half = (
        whole.with_columns(m=whole.m / 2)
        if phase == "prefill"
        else whole.with_columns(batch=whole.batch / 2, b_batch=whole.b_batch / 2, sequences=whole.sequences / 2)
    )
    seconds, least = gathered.latency(row, profile).item(), kernel.latency(half, profile).item()
    assert seconds == pytest.approx(least, rel=1e-9)  # packed and put back by ops of their own
    assert seconds >= ceilings(row, profile)[1].item()


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_block_sparse_attention_nears_its_share(phase: str) -> None:
    from pruninfersim.pruning.sparse_attention import SparseAttention

    work = Workload.prefill(1, 65536) if phase == "prefill" else Workload.decode(batch=64, context=65536)
    dense = trace("llama-3.1-8b", work)
    kernel, profile = fitted(phase, "rtx-pro-6000-server"), hardware.get("rtx-pro-6000-server")
    model = BlockSparseAttention(kernel, phase)
    times = []
    for sparsity in (0.0, 0.25, 0.5, 0.75):
        pruned = dense.prune(SparseAttention(sparsity, block_size=128))
        row = pruned.select(pruned.mask(kernels=[f"block_sparse_{phase}"]))
        times.append(model.latency(row, profile).item())
        assert times[-1] >= ceilings(row, profile)[1].item()
    full = kernel.latency(dense.select(dense.mask(kernels=[f"attention_{phase}"])), profile).item()
    assert times == sorted(times, reverse=True)
    assert full / times[2] == pytest.approx(2 * model.efficiency, rel=0.05)
    assert times[0] >= full


def test_a_window_does_not_count_as_pruning() -> None:
    kernel, profile = fitted("prefill", "h100-sxm"), hardware.get("h100-sxm")
    share = np.array([0.06])
    dense = ops("prefill", 1, 32, 8, 16384, 16384, share=share)
    kept = dense.with_columns(
        kernel=("token_attention_prefill",), mac_fraction=dense.mac_fraction * 0.5, a_reads=[0.5], out_writes=[0.5]
    )
    half = ops("prefill", 1, 32, 8, 8192, 16384, share=share)
    got = GatheredAttention(kernel, "prefill").latency(kept, profile).item()
    assert got == pytest.approx(kernel.latency(half, profile).item(), rel=1e-9)


def test_without_quantisation_is_near_and_continuous() -> None:
    kernel, profile = fitted("decode", "a100-sxm-80gb"), GPU
    keys = np.arange(20000, 20400)
    smooth = kernel.without_quantisation().latency(ops("decode", 64, 32, 8, 1, keys), profile)[:, 0]
    steps = np.abs(np.diff(smooth)) / smooth[1:]
    assert steps.max() < 0.02
    exact = kernel.latency(ops("decode", 64, 32, 8, 1, keys), profile)[:, 0]
    np.testing.assert_allclose(smooth, exact, rtol=0.35)
    assert replace(kernel, quantised=False) == kernel.without_quantisation()


@pytest.mark.parametrize(("gpu", "measured"), [("rtx-4090", 165e12)])
def test_half_rate_tensor_cores_are_not_kept_waiting(gpu: str, measured: float) -> None:
    # FlashAttention 2 at 22k tokens, figure of github.com/thu-ml/SpargeAttn, digitised: it set the cap.
    profile = hardware.get(gpu)
    seconds = fitted("prefill", gpu).latency(ops("prefill", 1, 32, 32, 22000, 22000, share=1.0), profile).item()
    assert 4 * 32 * 22000**2 * 128 / seconds == pytest.approx(measured, rel=0.1)


def test_a_window_is_all_that_a_token_sees() -> None:
    shape = {"heads": 32, "kv_heads": 8, "head_dim": 128, "hardware": "h100-sxm"}
    step = attention_latency(phase="decode", context=131072, window=1024, **shape)
    # The window begins inside of a block: one block of 128 more than its keys fill.
    assert 1.0 <= step / attention_latency(phase="decode", context=1024, **shape) < 1.2
    prompt = {"phase": "prefill", "query_len": 8192, "context": 8192, **shape}
    whole = attention_latency(**prompt)
    assert attention_latency(**prompt, window=8192) == pytest.approx(whole, rel=1e-12)
    # Of 8192 x 8192 / 2 products 1024 x 8192 are left, less the start of the prompt: a quarter.
    assert 0.2 < attention_latency(**prompt, window=1024) / whole < 0.4
    with pytest.raises(InvalidInputError, match="window must be at least 1"):
        attention_latency(**prompt, window=0)
