"""More work is not faster: a sample of the grid that validation/grid_gemm.py runs whole."""

from __future__ import annotations

from types import ModuleType

import pytest
from cases import IGNORE_PROVENANCE
from conftest import script

from pruninfersim import hardware, stacks

pytestmark = IGNORE_PROVENANCE
GPUS = ("h100-nvl", "a100-sxm-80gb", "b200-sxm", "rtx-4090", "rtx-3090", "l40s", "rtx-pro-6000", "mi325x", "h20")


@pytest.fixture(scope="module")
def grid() -> ModuleType:
    return script("grid_gemm")


@pytest.mark.parametrize("gpu", GPUS)
def test_one_more_token_output_or_input_is_not_faster(grid: ModuleType, gpu: str) -> None:
    drops = grid.gemm_drops(stacks.get("vendor", hardware.get(gpu)), 1000, seed=11)
    assert drops["over"].sum() == 0, drops.sort_values("drop").tail(3).to_string()
    assert set(drops["kind"]) >= {"gemm", "token_gemm"}


@pytest.mark.parametrize("gpu", ["b200-sxm", "mi325x", "rtx-4090"])
def test_one_more_sequence_or_key_makes_no_step_faster(grid: ModuleType, gpu: str) -> None:
    # All but attention, which has a grid of its own.
    drops = grid.step_drops(stacks.get("vendor", hardware.get(gpu)), 100, seed=11, attention=False)
    assert drops["over"].sum() == 0, drops.sort_values("drop").tail(3).to_string()
    assert "dynamic-depth" in set(drops["method"])


def test_two_thin_gemms_do_not_beat_the_whole_one(grid: ModuleType) -> None:
    # The power limit, were it to start anew with each kernel, made it 7 % faster on an L40S.
    for gpu in grid.gpus():
        assert grid.low_rank_at_zero(stacks.get("vendor", hardware.get(gpu))) <= 1.0, gpu
