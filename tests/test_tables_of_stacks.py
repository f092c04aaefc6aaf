"""Tables of stacks: bands around what they predict, kernels of the paper row by row, what engines launch and move."""

from __future__ import annotations

import pytest
from cases import IGNORE_PROVENANCE, rows

import pruninfersim as pis
from pruninfersim.stacks.engines.kernels import L2_RATE
from pruninfersim.stacks.paper import stack as paper
from pruninfersim.trace import OpTrace
from tests.oracle import paper_scalar as scalar

pytestmark = IGNORE_PROVENANCE
CONSTANTS = dict(paper.constants())
CARD = pis.hardware.get("rtx-pro-6000")
STEP = pis.Workload.decode(batch=4, context=1000)


def kernel(key: str):
    return paper.kernels(CARD)[key]


def seconds(key: str, m: float, n: float, k: float, **columns) -> float:
    row = {"name": "x", "kernel": key, "gemms": 1, "m": m, "n": n, "k": k, **columns}
    return float(kernel(key).latency(OpTrace.from_rows([row]), CARD)[0])


# --- bands ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gpu", ["h100-sxm", "rtx-pro-6000", "rtx-5090", "l4", "a100-sxm-80gb", "tpu-v6e"])
@pytest.mark.parametrize("stack", pis.stacks.names())
def test_a_band_has_the_prediction_inside(stack, gpu):
    """5 % of what is measured is below, 5 % above: both ends are never on one side."""
    for key, priced in pis.stacks.get(stack, pis.hardware.get(gpu)).kernels.items():
        assert priced.spread.low <= 0.0 <= priced.spread.high, key
        assert 0.0 <= priced.spread.common <= 1.0


@pytest.mark.parametrize("host", [None, *pis.stacks.HOSTS])
def test_the_band_of_a_host_holds_it(host):
    clock = pis.stacks.engine("transformers", host=host)(pis.hardware.get("l4")).clock
    assert 0.0 < clock.low < 1.0 < clock.high < 2.0


def test_a_host_that_nobody_knows_is_any_of_the_known():
    """From the fast host to above the slow one: an issue takes 9 to 32 us."""
    clock = pis.stacks.engine("transformers")(pis.hardware.get("l4")).clock
    assert (clock.low * clock.issue, clock.high * clock.issue) == pytest.approx((9e-6, 32e-6))


@pytest.mark.parametrize("host", pis.stacks.HOSTS)
def test_own_work_takes_as_much_longer_as_an_issue_does(host):
    hosts, gpu = pis.stacks.HOSTS, pis.hardware.get("h100-sxm")
    own, typical = (pis.stacks.engine("vllm", host=each)(gpu) for each in (host, "typical"))
    for row in ("host_step", "host_sequence"):
        ratio = own.priced(row, "bf16").model.seconds / typical.priced(row, "bf16").model.seconds
        assert ratio == pytest.approx(hosts[host].issue / hosts["typical"].issue, rel=1e-12)


def test_bands_are_narrower_on_the_card_that_was_timed():
    for stack, timed, other in (("paper", "rtx-pro-6000", "a100-sxm-80gb"), ("fused-dynamic", "rtx-5090", "rtx-4090")):
        own, carried = (
            pis.stacks.get(stack, pis.hardware.get(gpu)).priced("token_gemm", "bf16") for gpu in (timed, other)
        )
        assert (own.provenance, carried.provenance) == ("calibrated", "extrapolated")
        assert 0.0 < own.spread.high < carried.spread.high < 0.5


def test_attention_of_a_fused_step_is_that_of_the_vendor_and_less_certain():
    gpu = pis.hardware.get("rtx-5090")
    own = pis.stacks.get("fused-dynamic", gpu).priced("token_attention_decode", "bf16")
    base = pis.stacks.get("vendor", gpu).priced("attention_decode", "bf16")
    assert own.provenance == "extrapolated"
    assert own.spread.high > base.spread.high


def test_a_fused_kernel_leaves_a_small_one_to_order_the_mask():
    """The layout is part of the GEMM's time: what is left is below what a sort by library calls takes."""
    gpu, ops = pis.hardware.get("rtx-5090"), OpTrace.from_rows([{"kernel": "mask_sort", "m": 2048.0}])
    fused, vendor = (
        float(pis.stacks.get(stack, gpu).priced("mask_sort", "bf16").model.latency(ops, gpu)[0])
        for stack in ("fused-dynamic", "vendor")
    )
    assert fused < 0.2 * vendor


# --- the kernels of the paper, row by row ---------------------------------------------------------------------------


@pytest.mark.parametrize("m", [1, 2, 16, 17, 32, 63, 64, 65, 128, 1000])
@pytest.mark.parametrize(("n", "k"), [(4096, 4096), (14336, 4096), (4096, 14336), (1024, 4096)])
def test_each_number_of_tokens_is_priced_as_the_twin_does(m, n, k):
    assert seconds("gemm", m, n, k) == pytest.approx(scalar.gemm(m, n, k, CONSTANTS, scalar.RTX), rel=1e-9)
    assert seconds("lm_head", m, n, k) == pytest.approx(scalar.head(m, n, k, CONSTANTS, scalar.RTX), rel=1e-9)
    sparse = {"mac_fraction": 0.5, "b_bytes": 1.125, "pattern": "2:4"}
    slow = scalar.sparse24(m, n, k, CONSTANTS, scalar.RTX)
    assert seconds("gemm_2of4", m, n, k, **sparse) == pytest.approx(slow, rel=1e-9)


@pytest.mark.parametrize("keep", [0.25, 0.5, 0.9, 0.999, 1.0])
@pytest.mark.parametrize("m", [128, 256, 1024, 1100])
def test_token_wise_tiles_are_never_more_than_dense(m, keep):
    active = 1.0 - (1.0 - keep) ** m
    columns = {"mac_fraction": keep, "a_reads": keep, "out_writes": keep, "b_reads": active}
    slow = scalar.token_gemm(m, 14336, 4096, keep, CONSTANTS, scalar.RTX)
    assert seconds("token_gemm", m, 14336, 4096, **columns) == pytest.approx(slow, rel=1e-9)


def test_masks_of_the_paper_are_drawn_three_times():
    """Each capture of a CUDA graph draws one, and three are averaged."""
    assert pis.stacks.get("paper", CARD).protocol.mask_draws == 3


# --- engines --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("engine", "kernels"), [("tensorrt-llm", 0), ("sglang", 4), ("vllm", 8)])
def test_kernels_that_quantise_activations(engine, kernels):
    """Four distinct inputs in a layer; a scaled result for each of the four GEMMs where the library does not scale."""
    lowered = pis.Setup("llama-3.1-8b", "h100-sxm", engine, dtype="fp8").estimate(STEP).trace
    assert sum(name.startswith(("quantise", "dequantise")) for name in lowered.name) == kernels


def test_eager_torch_copies_the_whole_cache_to_append_to_it():
    """``torch.cat``: each of 4 sequences of 1000 keys, where others write one."""
    trace = pis.trace("llama-3.1-8b", STEP)
    for stack, tokens in (("transformers", 4 * 1000.0), ("vllm", 4.0), ("vendor", 4.0)):
        lowered = pis.stacks.get(stack, pis.hardware.get("h100-sxm")).lower(trace)
        assert float(rows(lowered, "kv_append").m[0]) == tokens


@pytest.mark.parametrize(("key", "times"), [("norm", 2.0), ("act", 1.5), ("rope", 2.0)])
def test_unfused_kernels_move_more_than_a_fused_one(key, times):
    """A norm in float32 with casts more than twice; SiLU and then a product 2 + 3 elements in place of 3."""
    gpu = pis.hardware.get("h100-sxm")
    ops = OpTrace.from_rows([{"kernel": key, "m": 8192.0, "n": 4096.0, "k": 4096.0}])
    eager, fused = (
        float(pis.stacks.get(stack, gpu).priced(key, "bf16").model.latency(ops, gpu)[0])
        for stack in ("transformers", "vendor")
    )
    assert eager > times * fused


def test_an_sm_reads_no_more_from_l2_than_its_port_takes():
    """64 bytes in a clock."""
    assert 0.25 * 64.0 < L2_RATE < 64.0


@pytest.mark.parametrize("key", ["group_gemm_n", "group_gemm_k", "fine_gemm_n", "fine_gemm_k"])
def test_groups_of_channels_are_priced_by_a_masked_gemm(key):
    """Beside the dense GEMM: a band of its own, and never faster than the roofline of what is kept."""
    gpu = pis.hardware.get("h100-sxm")
    vendor = pis.stacks.get("vendor", gpu)
    own, dense = vendor.priced(key, "bf16"), vendor.priced("gemm", "bf16")
    assert own.provenance == "extrapolated"
    assert own.spread.high > dense.spread.high > 0.0
