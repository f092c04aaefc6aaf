"""What random masks do to a measured decode step: against draws of such masks, and in closed form."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cases import IGNORE_PROVENANCE
from toy import Slow, toy

import pruninfersim as pis
from pruninfersim.cost import CostModel, Estimate, Priced, Spread
from pruninfersim.pruning import DynamicDepth, PerBlock, PerLayer
from pruninfersim.questions.comparison import NORMAL_90, estimated_interval, mask_draw_half_width

pytestmark = IGNORE_PROVENANCE

LAYERS = 32
#: Masks that are drawn for a test, each as often as the protocol does.
MEASUREMENTS = 40_000


def drawing(draws: int = 3, repeatability: float = 0.0) -> CostModel:
    """Every op at half of its roofline, known exactly, and a protocol that draws masks."""
    stack = toy(spread=Spread(0.0, 0.0, 0.0))
    exact = dict.fromkeys(stack.kernels, Priced(Slow(), "calibrated", Spread(0.0, 0.0, 0.0), "all", "made up"))
    protocol = replace(stack.protocol, mask_draws=draws, repeatability=repeatability)
    return replace(stack, kernels=exact, protocol=protocol)


def step(ratio, batch=1, stack: CostModel | None = None, **options) -> Estimate:
    dense = pis.trace("llama-3.1-8b", pis.Workload.decode(batch, 1024))
    return (stack or drawing()).predict(dense.prune(DynamicDepth(ratio, **options)))


def spread_of_draws(estimate: Estimate, draws: int) -> float:
    """Draw whole masks: each token-wise GEMM of a layer's block runs in full, or not at all, with its neighbours."""
    ops, rng = estimate.trace, np.random.default_rng(0)
    chance, whole = {}, {}
    for i, (kernel, block, layers) in enumerate(zip(ops.kernel, ops.block, ops.layers, strict=True)):
        if kernel != "token_gemm":
            continue
        for layer in layers:
            chance[layer, block] = float(ops.b_reads[..., i])
            runs = float(ops.count[..., i]) / len(layers)
            time = float(estimate.run[..., i] + estimate.gap[..., i]) / chance[layer, block] * runs
            whole[layer, block] = whole.get((layer, block), 0.0) + time
    p, t = (np.array(list(side.values())) for side in (chance, whole))
    times = [(rng.random((draws, len(p))) < p).mean(axis=0) @ t for _ in range(MEASUREMENTS)]
    return float(NORMAL_90 * np.std(times) / estimate.latency)


@pytest.mark.parametrize("draws", [1, 3])
@pytest.mark.parametrize(
    ("ratio", "batch", "options"),
    [
        (0.5, 1, {}),
        (0.5, 3, {}),
        (PerBlock(attention=0.25, mlp=0.75), 1, {}),
        (PerLayer(np.linspace(0.1, 0.9, LAYERS)), 2, {}),
        (0.5, 1, {"blocks": ("mlp",)}),
        (0.5, 1, {"kv": "skipped"}),
    ],
    ids=["one ratio", "three tokens", "per block", "per layer", "one block", "keys skipped"],
)
def test_is_the_spread_of_drawn_masks(ratio, batch, options, draws):
    found = step(ratio, batch, drawing(draws), **options)
    assert float(mask_draw_half_width(found)) == pytest.approx(spread_of_draws(found, draws), rel=0.02)


def test_a_step_that_is_one_kind_of_sub_layer_is_a_binomial():
    """Of L equal sub-layers a share p runs: the relative scatter is the binomial one, sqrt((1 - p) / (p L draws))."""
    found = step(PerBlock(mlp=0.5), stack=drawing(4), blocks=("mlp",))
    gemms = found.trace.select(found.trace.mask(kernels=["token_gemm"]))
    alone = drawing(4).predict(gemms)
    assert float(mask_draw_half_width(alone)) == pytest.approx(1.645 * np.sqrt(0.5 / 0.5 / (LAYERS * 4)), rel=1e-12)


def test_falls_with_the_root_of_the_draws_and_with_tokens():
    one, four = (float(mask_draw_half_width(step(0.5, stack=drawing(draws)))) for draws in (1, 4))
    assert one == pytest.approx(2.0 * four, rel=1e-12)
    tokens = [float(mask_draw_half_width(step(0.5, batch))) for batch in (1, 2, 4, 8, 64)]
    assert tokens == sorted(tokens, reverse=True)
    assert tokens[-1] < 1e-6  # some token always is active


def test_points_of_a_sweep_are_points():
    found = step(np.array([[0.25], [0.5]]), batch=np.array([1, 2, 8]))
    together = mask_draw_half_width(found)
    assert together.shape == (2, 3)
    for place in np.ndindex(2, 3):
        assert float(mask_draw_half_width(found.at(place))) == pytest.approx(together[place], rel=1e-12)


def test_nothing_is_drawn_where_nobody_draws_or_skips():
    assert float(mask_draw_half_width(step(0.5, stack=drawing(0)))) == 0.0
    dense = drawing().predict(pis.trace("llama-3.1-8b", pis.Workload.decode(1, 1024)))
    assert float(mask_draw_half_width(dense)) == 0.0
    assert float(mask_draw_half_width(step(0.0))) == 0.0


def test_the_interval_holds_it_beside_how_well_a_measurement_repeats():
    stack = drawing(3, repeatability=0.03)
    dense = stack.predict(pis.trace("llama-3.1-8b", pis.Workload.decode(1, 1024)))
    pruned = step(0.5, stack=stack)
    estimated, low, high, _ = estimated_interval(dense, pruned)
    half = np.hypot(0.03, spread_of_draws(pruned, 3))
    assert np.log(estimated / low) == pytest.approx(half, rel=0.02)
    assert np.log(high / estimated) == pytest.approx(half, rel=0.02)
