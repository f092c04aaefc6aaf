"""Prefill over caches of 8 bit, split keys, and windows: closed forms and loops over all tiles."""

from __future__ import annotations

import numpy as np
import pytest

from pruninfersim import hardware
from pruninfersim.kernels import attention_prefill
from pruninfersim.kernels.attention_prefill import PrefillAttention
from pruninfersim.kernels.attention_prefill_8bit import NarrowPrefillAttention
from pruninfersim.kernels.kv_append import KVAppend
from pruninfersim.trace import OpTrace

L40S = hardware.get("l40s")


def prompts(heads=8, kv_heads=8, queries=1024, keys=1024, batch=1, width=128, stored=1.0) -> OpTrace:
    row = {"kernel": "attention_prefill", "gemms": 2.0, "m": queries, "n": keys, "k": width, "batch": batch * heads}
    row |= {"b_batch": batch * kv_heads, "sequences": batch, "b_bytes": stored, "dtype": "bf16"}
    return OpTrace.from_rows([row | {"mac_fraction": 1.0 - queries / (2.0 * keys)}])


def test_a_copy_of_a_wide_token_takes_its_threads_and_a_conversion_takes_its_elements() -> None:
    kernel = NarrowPrefillAttention(kv_write=2e-9, convert=1e-9)
    narrow = [kernel.write(prompts(kv_heads=heads)).item() for heads in (2, 4, 32)]
    assert narrow == pytest.approx([0.5 * (2e-9 + 1e-9), 2e-9 + 1e-9, 2e-9 + 8 * 1e-9])
    wide = [kernel.write(prompts(kv_heads=heads, stored=2.0)).item() for heads in (2, 4, 32)]
    assert wide == pytest.approx([1e-9, 2e-9, 2e-9])
    # The kernel of a model step does the same; its op holds keys and values side by side.
    row = {"kernel": "kv_append", "m": 1000.0, "n": 2 * 32 * 128.0, "k": 2 * 32 * 128.0, "out_bytes": 1.0}
    step = KVAppend(2e-9, 1e9, 1e-9).latency(OpTrace.from_rows([row]), L40S).item()
    assert step == pytest.approx(1000 * (2e-9 + 8 * 1e-9))


def test_queries_are_read_in_16_bit_and_written_in_8_before_flash_attention_3() -> None:
    ops = prompts(heads=32, kv_heads=8)
    seen, before = NarrowPrefillAttention(algorithm="fa3-8bit").read(ops)
    elements = 1024 * 128 * 32
    assert np.asarray(before).item() == elements * (2 + 1)
    assert seen.a_traffic.item() == elements
    assert seen.out_traffic.item() == ops.out_traffic.item() == 2 * elements
    for algorithm, stored in (("flashinfer", 1.0), ("trtllm", 1.0), ("fa3-8bit", 2.0)):
        unchanged = prompts(heads=32, kv_heads=8, stored=stored)
        seen, before = NarrowPrefillAttention(algorithm=algorithm).read(unchanged)
        assert np.asarray(before).item() == 0.0
        assert seen.a_traffic.item() == unchanged.a_traffic.item()


def test_keys_of_few_tiles_are_split_and_those_of_many_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = NarrowPrefillAttention(algorithm="flashinfer", launch=4e-6)
    few = prompts(heads=1, kv_heads=1, queries=64, keys=64 * 1000, width=256)
    many = prompts(heads=32, kv_heads=8, queries=4096, keys=4096)
    split = [kernel.compute(ops, L40S).item() for ops in (few, many)]
    monkeypatch.setattr(attention_prefill, "SPLIT", ())
    whole = [kernel.compute(ops, L40S).item() for ops in (few, many)]
    assert split[1] == whole[1]
    # One tile of 1000 blocks, on each of 142 SMs a part of it; what both have beside is two starts.
    bare = NarrowPrefillAttention(algorithm="flashinfer", tile_start=1e-8, l2_feed=1000.0, power_droop=1e-4)
    alone = bare.compute(few, L40S).item()
    monkeypatch.undo()
    assert bare.compute(few, L40S).item() - bare.launch == pytest.approx(alone / 142, rel=0.01)
    assert split[0] < whole[0] / 20


@pytest.mark.parametrize("width", [64, 128, 256])
@pytest.mark.parametrize("algorithm", ["fa2", "fa3", "trtllm", "flashinfer"])
def test_blocks_in_a_window_are_those_that_a_loop_over_all_tiles_visits(algorithm: str, width: int) -> None:
    """Of prompts of 2^n tokens too, whose tiles begin at few places of a block."""
    kernel, window = PrefillAttention(algorithm=algorithm), 128
    rows, block = (
        attention_prefill.by_head(table[algorithm], np.array([float(width)]))
        for table in (attention_prefill.ROWS, attention_prefill.KEYS)
    )
    for tokens in (1000, 2048, 4096, 8192, 16384):
        share = (window * tokens - window * (window - 1) / 2) / tokens**2
        ops = prompts(1, 1, tokens, tokens, width=width).with_columns(mac_fraction=share, pattern=("window",))
        tiles = np.ceil(tokens / rows)
        mean, most = (x.item() for x in kernel._in_window(ops, tiles, rows, block))
        first = np.arange(tiles.item()) * rows.item()
        last = np.minimum(first + rows.item(), tokens)
        visited = np.ceil(last / block) - np.floor(np.maximum(first - window + 1, 0) / block)
        assert mean == pytest.approx(visited.mean(), rel=0.06)
        assert most == visited.max()
