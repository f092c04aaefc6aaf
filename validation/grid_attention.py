"""Check what no attention kernel may do, on a grid of shapes and all GPU profiles.

Usage: python validation/grid_attention.py [--every N]

Attention of the vendor stack with cold operands, on every profile that it prices: contexts to a million keys, 1 to 256
sequences, odd numbers of heads, heads of 64 to 256. Prints, per GPU, how far one more key, one more sequence or one
more query makes an attention faster, beyond what one wave of CTAs explains, and the ratio of one query in a chunk to
a decode step. Exit status 1 if anything does.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterator

import numpy as np

from pruninfersim import hardware, stacks
from pruninfersim.errors import PruninfersimError
from pruninfersim.hardware import HardwareProfile
from pruninfersim.kernels.attention_chunk import ChunkAttention
from pruninfersim.kernels.attention_decode import DecodeAttention, least_blocks
from pruninfersim.kernels.attention_prefill import BLOCK, TILE_ROWS, PrefillAttention
from pruninfersim.trace import OpTrace

#: (query heads, KV heads): grouped, not grouped, odd, packed into rows that do not divide a tile.
HEADS = ((32, 8), (32, 32), (14, 2), (7, 1), (64, 8), (40, 10), (71, 71), (1, 1), (128, 8))
SIZES = (64, 96, 128, 256)
KEYS = (
    1, 17, 100, 127, 128, 129, 255, 256, 300, 1000, 1023, 1024, 4096, 10_000, 16_383, 16_384, 49_152, 131_072, 1_000_000
)  # fmt: skip
BATCHES = (1, 2, 3, 4, 7, 8, 15, 16, 31, 32, 63, 64, 100, 128, 200, 255)
#: Queries of a chunk, ascending.
QUERIES = (1, 2, 3, 4, 7, 8, 16, 17, 31, 32, 33, 64, 65, 100, 128, 129, 200, 256, 512, 1000, 2048)
#: Fewest SMs of a GPU; the few wide units of systolic parts do not run CTAs.
FEWEST_SMS = 16
#: Rounding.
SLACK = 1e-9


def ops(phase: str, batch: object, heads: int, kv_heads: int, queries: object, keys: object, size: int) -> OpTrace:
    """Return one attention op; arrays broadcast."""
    b, m, n = (np.asarray(x, dtype=float) for x in (batch, queries, keys))
    share = 1.0 - m / (2.0 * np.maximum(n, m)) if phase == "prefill" else 1.0
    row = {"m": m, "n": n, "k": size, "batch": b * heads, "b_batch": b * kv_heads, "sequences": b, "gemms": 2.0}
    return OpTrace.from_rows([row | {"kernel": f"attention_{phase}", "mac_fraction": share}])


def wave(kernel: DecodeAttention, shape: OpTrace, gpu: HardwareProfile) -> np.ndarray:
    """Return the walk of one wave of CTAs in decode, with the combination of its parts [s].

    Waves bound by DRAM explain nothing: their bytes are read whatever the number of waves.
    """
    group = shape.batch / shape.b_batch
    tiles = shape.b_batch * np.ceil(group * shape.m / TILE_ROWS[kernel.algorithm])
    blocks = np.ceil(shape.n / BLOCK)
    least = least_blocks(tiles, blocks, kernel.algorithm, gpu.sm_count)
    walk = np.ceil(least) * kernel.block_latency * shape.k / kernel.HEAD_DIM
    fed = shape.b_traffic / shape.b_batch * np.ceil(least) / blocks
    walk = walk + fed * gpu.sm_count / (gpu.memory_bandwidth * kernel.L2_FEED)
    combine = np.minimum(blocks / least - 1.0, 1.0) * (kernel.combine + kernel.combine_part * blocks / least)
    return np.asarray(kernel.tile_start + walk + combine)[..., 0]


def prefill_wave(kernel: PrefillAttention, shape: OpTrace, gpu: HardwareProfile) -> np.ndarray:
    """Return the longest wave of CTAs in prefill, each on all keys, and one key block of every wave [s].

    The blocks: the tiles of 200 queries on 256 keys meet one block more than those of 256, which start aligned.
    """
    packed, group = kernel.algorithm == "fa3", shape.batch / shape.b_batch
    peak = gpu.peak_flops("bf16") * kernel.compute_efficiency / gpu.sm_count
    block = 4.0 * kernel.tile_rows * BLOCK * shape.k / peak
    feed = 2.0 * 2.0 * shape.k * kernel.tile_rows / (gpu.clock * kernel.l2_feed)
    heads, rows = (shape.b_batch, shape.m * group) if packed else (shape.batch, shape.m)
    waves = np.ceil(heads * np.ceil(rows / kernel.tile_rows) / gpu.sm_count)
    walked = (np.ceil(shape.n / BLOCK) * (1.0 + kernel.tail) + waves) * block
    return np.asarray((2.0 * (kernel.tile_start + kernel.ODD_GROUP * feed) + walked) * (1.0 + kernel.power_droop))[
        ..., 0
    ]


def faster(seconds: np.ndarray, less: np.ndarray, explained: np.ndarray) -> float:
    """Return by how much more work is faster than `less`, beyond what is explained, as a share of the time."""
    return float(np.max((less - seconds - explained) / less))


def judge(gpu: HardwareProfile, every: int = 1) -> Iterator[tuple[str, float]]:
    """Yield (what, worst share of the time) for one GPU; positive is wrong."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stack = stacks.get("vendor", gpu)
    chunk, decode = (stack.priced(f"attention_{phase}", "bf16").model for phase in ("prefill", "decode"))
    assert isinstance(chunk, ChunkAttention)
    assert isinstance(chunk.whole, PrefillAttention)
    assert isinstance(decode, DecodeAttention)
    keys, batch = np.array(KEYS, dtype=float)[:, None], np.array(BATCHES, dtype=float)
    queries = np.array(QUERIES, dtype=float)
    worst: dict[str, float] = {}
    for number, (heads, kv) in enumerate(HEADS):
        for size in SIZES[number % every :: every]:
            base = ops("decode", batch, heads, kv, 1, keys, size)
            less = decode.latency(base, gpu)[..., 0]
            slack = wave(decode, base, gpu)
            for what, shape in (
                ("one more key", ops("decode", batch, heads, kv, 1, keys + 1, size)),
                ("one more sequence", ops("decode", batch + 1, heads, kv, 1, keys, size)),
            ):
                found = faster(decode.latency(shape, gpu)[..., 0], less, slack)
                worst[what] = max(worst.get(what, -1.0), found)
            row = ops("prefill", 1, heads, kv, np.minimum(queries, keys), keys, size)
            time = chunk.latency(row, gpu)[..., 0]
            # A chunk lies between the two ways, and so does what a wave of each explains.
            own = np.minimum(queries / keys, 1.0)
            slack = own * prefill_wave(chunk.whole, row, gpu) / chunk.whole.latency(row, gpu)[..., 0]
            slack = time * (slack + (1.0 - own) * wave(decode, row, gpu) / chunk.split.latency(row, gpu)[..., 0])
            found = faster(time[:, 1:], time[:, :-1], slack[:, :-1])
            worst["more queries"] = max(worst.get("more queries", -1.0), found)
            one = chunk.latency(ops("prefill", 1, heads, kv, 1, keys[8:], size), gpu)[..., 0]
            step = decode.latency(ops("decode", 1, heads, kv, 1, keys[8:], size), gpu)[..., 0]
            found = float(np.max(one / step - 1.0))
            worst["one query over decode"] = max(worst.get("one query over decode", -1.0), found - 0.01)
            length = np.arange(1.0, 600.0)
            row = ops("prefill", 1, heads, kv, length, length, size)
            time, slack = chunk.latency(row, gpu)[:, 0], prefill_wave(chunk.whole, row, gpu)
            found = faster(time[1:], time[:-1], slack[:-1])
            worst["longer prompt"] = max(worst.get("longer prompt", -1.0), found)
    yield from worst.items()


def main() -> int:
    """Print the worst of every GPU."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--every", type=int, default=1, help="take every N-th head size only")
    every, wrong = parser.parse_args().every, 0
    for name in hardware.names():
        gpu = hardware.get(name)
        if gpu.sm_count < FEWEST_SMS:
            print(f"{name:24s} passed over: {gpu.sm_count:g} units are no SMs")
            continue
        try:
            found = dict(judge(gpu, every))
        except PruninfersimError as error:
            print(f"{name:24s} not priced: {error}")
            continue
        wrong += sum(value > SLACK for value in found.values())
        print(f"{name:24s} " + "  ".join(f"{what} {100 * value:+.2f} %" for what, value in found.items()))
    print(f"{wrong} wrong")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
