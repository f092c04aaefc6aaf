"""Evidence is enforced: calibrations of one's own go everywhere, domains widen bands, notes say what is outside."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from cases import IGNORE_PROVENANCE

import pruninfersim as pis
from pruninfersim.calibration import nearest
from pruninfersim.cost import Domain, Priced, Spread
from pruninfersim.errors import InvalidInputError
from pruninfersim.kernels import gemm as gemm_file
from pruninfersim.kernels.evidence import MOST

H100 = pis.hardware.get("h100-sxm")
MODEL = "llama-3.1-8b"

pytestmark = IGNORE_PROVENANCE


# --- calibrations of one's own ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def slower():
    """A calibration of made-up timings that are 15 % slower than the shipped kernel says."""
    axes = np.meshgrid([1, 16, 64, 256, 1024, 4096, 8192], [1024, 4096, 8192, 14336], [4096, 14336])
    m, n, k = (axis.ravel() for axis in axes)
    seconds = np.asarray(pis.gemm_latency(m, n, k, hardware=H100, cache="replayed"))
    rows = pd.DataFrame({"gpu": H100.name, "dtype": "bf16", "m": m, "n": n, "k": k, "latency_us": 1.15e6 * seconds})
    return pis.calibrate("gemm", rows, hardware=H100, source="made up")


@pytest.mark.parametrize(("method", "both_move"), [("semi-structured", 1.50), ("dynamic-depth", 1.64)])
def test_a_calibration_moves_both_sides_of_a_speedup(slower, method, both_move):
    """2:4 and token-wise GEMMs contain a GEMM: were theirs left as shipped, the speedups would be 1.65 and 1.80."""
    stack = pis.stacks.vendor(H100, calibrations=[slower])
    case = {"model": MODEL, "hardware": H100, "method": method, "sparsity": 0.5, "context": 4096}
    assert pis.speedup(**case, stack=stack).estimated == pytest.approx(both_move, abs=0.01)
    assert pis.speedup(**case).estimated == pytest.approx(both_move, rel=0.03)


def test_with_kernel_takes_a_calibration_and_says_so_in_the_label(slower):
    shipped = pis.stacks.get("vendor", H100)
    own = shipped.with_kernel("gemm", slower)
    assert own.stack == "vendor, own gemm"
    assert own.priced("gemm", "bf16").model == slower.kernel
    assert own.priced("token_gemm", "bf16") is shipped.priced("token_gemm", "bf16")
    dense = pis.trace(MODEL, pis.Workload.prefill(1, 2048))
    assert pis.estimate(dense, hardware=H100, stack=own).stack == "vendor, own gemm"
    assert 1.05 < pis.estimate(dense, hardware=H100, stack=own).latency / shipped.predict(dense).latency < 1.15


def test_with_calibrations_builds_the_stack_anew(slower):
    shipped = pis.stacks.get("vendor", H100)
    once = shipped.with_calibrations(slower)
    assert once.stack == "vendor, own gemm"
    assert once.priced("token_gemm", "bf16").model.dense == slower.kernel
    assert once.with_calibrations(slower).stack == "vendor, own gemm"
    with pytest.raises(InvalidInputError, match="stack 'ideal' is not built from calibrations"):
        pis.stacks.get("ideal", H100).with_calibrations(slower)


def test_what_is_no_kernel_or_of_another_gpu_is_told_at_once(slower):
    shipped = pis.stacks.get("vendor", H100)
    with pytest.raises(InvalidInputError, match=r"Priced or a Calibration for 'gemm'; got str"):
        shipped.with_kernel("gemm", "fast")
    with pytest.raises(InvalidInputError, match="is of h100-sxm, not of l40s"):
        pis.stacks.vendor(pis.hardware.get("l40s"), [slower])
    with pytest.raises(InvalidInputError, match=r"what calibrate\(\) returns; got str"):
        pis.stacks.vendor(H100, ["mine.toml"])


# --- domains ----------------------------------------------------------------------------------------------------------


def outside(model, gpu, method, workload, names):
    """Provenance and widening of some ops of the pruned side, and the notes of the speedup."""
    result = pis.Setup(model, gpu).speedup(method, workload)
    which = result.pruned.trace.mask(names=names)
    return result.pruned.provenance[which], np.broadcast_to(result.pruned.widening, which.shape)[which], result.notes


@pytest.mark.parametrize(
    ("model", "gpu", "method", "workload", "names", "note"),
    [
        ("llama-2-7b", "rtx-4090", pis.pruning.SemiStructured(), pis.Workload.decode(1, 1024), ["gate_up"],
         "tokens 1; the timings begin at 64"),
        (MODEL, "h100-sxm", pis.pruning.StaticDepth(0.5), pis.Workload.prefill(64, 131072), ["gate_up"],
         "tokens 8 388 608; the timings end at 32 768"),
        (MODEL, "h100-sxm", pis.pruning.StaticWidth(0.5), pis.Workload.decode(1, 1_000_000), ["attention"],
         "keys 1 000 000; the timings end at 131 072"),
        ("gemma-2-9b", "h100-sxm", pis.pruning.StaticWidth(0.5), pis.Workload.prefill(1, 4096), ["attention"],
         "head size 256; the timings end at 128"),
    ],
)  # fmt: skip
def test_outside_of_its_fit_an_op_is_extrapolated_wider_and_named(model, gpu, method, workload, names, note):
    provenance, widening, notes = outside(model, gpu, method, workload, names)
    assert set(provenance) == {"extrapolated"}
    assert (widening > 1.25).all()
    assert any(note in line and names[0] in line for line in notes), notes


def test_two_of_four_at_one_token_is_less_sure_than_at_64():
    """Llama-2-7B on an RTX 4090: 0.88 is published at batch 1, where the fit has nothing below 64 tokens."""
    widths = []
    for batch in (1, 64):
        low, high = pis.speedup(
            model="llama-2-7b", hardware="rtx-4090", method="semi-structured", sparsity=0.5, phase="decode", batch=batch
        ).interval
        widths.append(np.log(high / low))
    assert widths[0] > 2.0 * widths[1]


@pytest.mark.parametrize("gpu", ["h100-sxm", "b200-sxm", "rtx-pro-6000-server", "a100-sxm-80gb"])
def test_lm_heads_are_wide_gemms_and_inside(gpu):
    """Measured GEMMs of up to 65536 outputs and of LM heads lie inside the band of fits that end at 16384."""
    step = pis.Setup("llama-3.1-8b", gpu).estimate(pis.Workload.decode(16, 1024))
    head = step.trace.mask(names=["lm_head"])
    assert step.provenance[head].tolist() == ["calibrated"]
    assert step.notes == ()


def test_a_sweep_has_the_evidence_of_each_point():
    step = pis.Setup(MODEL, H100).estimate(pis.Workload.decode(1, [1000, 131072, 1_000_000]))
    attention = step.provenance[..., step.trace.mask(names=["attention"])][:, 0]
    assert attention.tolist() == ["calibrated", "calibrated", "extrapolated"]
    frame = step.to_frame().query("name == 'attention'")
    assert frame["provenance"].tolist() == attention.tolist()
    assert any("keys 1 000 000" in note for note in step.notes)


def test_bands_widen_with_the_distance_and_not_without_end():
    domain = gemm_file.KIND.domain({"tokens": (1, 8192), "weights": (2**18, 2**28), "outputs or inputs": (512, 16384)})
    ops = pis.OpTrace.from_rows([{"gemms": 1, "m": 8, "n": n, "k": 4096} for n in (512, 256, 128, 32, 1)])
    assert domain.widening(ops).tolist() == [1.0, 1.5, 2.0, 3.0, MOST]
    inside = pis.OpTrace.from_rows([{"gemms": 1, "m": 8192, "n": 128256, "k": 8192}])
    assert domain.widening(inside).tolist() == 1.0
    assert Domain().widening(ops) == 1.0


def test_a_widened_op_widens_the_interval_of_the_pass_and_of_the_speedup():
    narrow = pis.stacks.get("vendor", H100)
    kernels = {key: replace(priced, domain=Domain()) for key, priced in narrow.kernels.items()}
    unlimited = replace(narrow, kernels=kernels)
    dense = pis.trace(MODEL, pis.Workload.decode(1, 1_000_000))
    pruned = dense.prune(pis.pruning.StaticWidth(0.5))
    for ask in (
        lambda stack: pis.estimate(dense, hardware=H100, stack=stack).interval,
        lambda stack: pis.compare(dense, pruned, hardware=H100, stack=stack).interval,
    ):
        wide, slim = (np.log(high / low) for low, high in map(ask, (narrow, unlimited)))
        assert wide > 1.1 * slim
    notes = pis.estimate(dense, hardware=H100, stack=unlimited).notes
    assert not any("extrapolated" in note for note in notes)


# --- other cards ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("card", "twin"),
    [("a800-80gb", "a100-sxm-80gb"), ("h800-sxm", "h100-sxm"), ("rtx-pro-6000", "rtx-pro-6000-server")],
)
def test_the_same_silicon_runs_the_same_kernels(card, twin):
    one, other = (pis.stacks.get("vendor", pis.hardware.get(name)) for name in (card, twin))
    assert {key: p.model for key, p in one.kernels.items()} == {key: p.model for key, p in other.kernels.items()}
    assert one.priced("gemm", "bf16").provenance == "calibrated"
    assert one.priced("gemm", "bf16").spread == other.priced("gemm", "bf16").spread


def test_a_clone_has_silicon_of_its_own():
    assert pis.hardware.get("a800-80gb").clone("a800-faster", memory_bandwidth=3e12).silicon == ""


def test_both_sides_extrapolated_alike_is_a_note_and_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = pis.Setup(MODEL, "rtx-5090").speedup("static-width", 0.5, pis.Workload.decode(1, 4096))
    assert len(result.notes) == 1
    assert "rest on extrapolated kernels, fitted on other GPUs than rtx-5090" in result.notes[0]


@pytest.mark.parametrize("gpu", ["rtx-5090", "mi300x", "h100-sxm"])
def test_validation_and_prediction_have_one_band(gpu):
    profile = pis.hardware.get(gpu)
    rows = pd.DataFrame({"gpu": gpu, "dtype": "bf16", "m": [1.0, 64.0, 4096.0], "n": 4096.0, "k": 4096.0})
    rows["latency_us"] = 1e6 * np.asarray(pis.gemm_latency(rows["m"], rows["n"], rows["k"], hardware=gpu))
    from pruninfersim.calibration.validate import judged_rows

    (judged,) = judged_rows(rows, profile)
    assert judged.spread == pis.stacks.get("vendor", profile).priced("gemm", "bf16").spread


def test_an_accelerator_of_another_vendor_has_twice_the_band():
    gpu, other = pis.hardware.get("rtx-5090"), pis.hardware.get("mi300x")
    found, extrapolated = nearest.nearest_calibration("gemm", "bf16", other)
    assert extrapolated
    wide = nearest.band("gemm", found, True, other)
    slim = nearest.band("gemm", found, True, gpu)
    assert wide == Spread(2 * slim.low, 2 * slim.high, slim.common)


def test_ideal_prices_any_key_from_the_columns_alone():
    row = {"kernel": "no_such_key", "gemms": 1, "m": 64, "n": 4096, "k": 4096}
    sparse = row | {"kernel": "another", "pattern": "2:4", "mac_fraction": 0.5, "b_bytes": 1.125, "m": 65536}
    ops = pis.OpTrace.from_rows([row, sparse])
    step = pis.estimate(ops, hardware=H100, stack="ideal")
    weights = 2 * (64 * 4096 + 4096 * 4096 + 64 * 4096)
    assert step.run[0] == pytest.approx(weights / H100.memory_bandwidth, rel=1e-12)
    assert step.run[1] == pytest.approx(65536 * 4096 * 4096 / (H100.peak_2of4["bf16"] / 2), rel=1e-12)
    assert isinstance(pis.stacks.get("ideal", H100).default, Priced)


# --- cost models of one's own -----------------------------------------------------------------------------------------


def test_a_kernel_put_in_by_hand_survives_calibrations(slower):
    own = pis.stacks.get("vendor", H100).priced("act", "bf16")
    both = pis.stacks.get("vendor", H100).with_kernel("norm", own).with_kernel("norm", own).with_calibrations(slower)
    assert both.stack == "vendor, own gemm, own norm"
    assert both.priced("norm", "bf16") is own
    assert both.priced("token_gemm", "bf16").model.dense == slower.kernel


def test_a_kernel_for_one_precision_is_enough_for_it():
    own = pis.stacks.get("vendor", H100).priced("act", "bf16")
    model = pis.CostModel("toy", H100, {"foo/fp8": own})
    assert model.predict(pis.OpTrace.from_rows([{"kernel": "foo", "dtype": "fp8"}])).latency > 0


def test_one_kernel_with_two_domains_and_a_domain_of_nothing():
    vendor = pis.stacks.get("vendor", H100)
    free = vendor.with_kernel("lm_head", replace(vendor.kernels["gemm"], domain=Domain()))
    thin = {"gemms": 1, "m": 8, "n": 64, "k": 4096}
    rows = [{"kernel": "lm_head", **thin}, {"kernel": "gemm", **thin}]
    assert free.predict(pis.OpTrace.from_rows(rows)).widening.tolist() == [1.0, 2.5]
    nothing = pis.OpTrace.from_rows([{"kernel": "act", "m": 8, "a_reads": 0.0, "out_writes": 0.0}])
    assert vendor.predict(nothing).widening == 1.0


def test_what_does_not_fit_is_said_wherever_a_time_is():
    """Llama-3.1-405B: 406e9 parameters of 2 bytes, and 64 x 4096 tokens of 126 x 8 x 128 keys and values."""
    setup = pis.Setup("llama-3.1-405b", "rtx-4090")
    step = setup.estimate(pis.Workload.decode([1, 64], 4096))
    need = (405.853e9 * 2 + 2 * 2 * 126 * 8 * 128 * 64 * 4096) / 1e9
    assert step.fits.tolist() == [False, False]
    assert "does not fit on one rtx-4090" in step.notes[0]
    assert f"{need:.3g} GB" in step.notes[0]
    result = setup.speedup("static-width", 0.5, pis.Workload.decode(64, 4096))
    assert {"the model does not fit", "the pruned model does not fit"} <= {n.partition(" on")[0] for n in result.notes}
    assert result.to_dict()["fits"] is False
    small = pis.Setup("llama-3.1-8b", "rtx-4090").estimate(pis.Workload.decode([1, 64], 4096))
    assert small.fits.tolist() == [True, False]  # 16 GB of weights and 0.5 GB of cache per sequence, of 24
    assert pis.Setup("llama-3.1-8b", "rtx-4090").estimate(pis.Workload.decode(1, 4096)).fits is True


def test_a_context_beyond_the_positions_of_the_model_is_said():
    setup = pis.Setup("llama-2-7b", "h100-sxm")
    assert (
        "4097 tokens is beyond the 4096 positions of llama-2-7b"
        in setup.estimate(pis.Workload.decode(1, 4097)).notes[0]
    )
    assert setup.estimate(pis.Workload.decode(1, 4096)).notes == ()
