"""Suites, plan, protocol, device and command of a measurement, without torch and without a GPU."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from cases import some_gemms

import pruninfersim as pis
from pruninfersim.calibration import kinds
from pruninfersim.errors import InvalidInputError, PruninfersimError, UnknownNameError
from pruninfersim.measure import command, device, monitor, planning, suites
from pruninfersim.measure.cases import COLUMNS
from pruninfersim.measure.protocol import Protocol, digest

GPU = pis.hardware.get("h100-sxm")


# --- suites -------------------------------------------------------------------------------------------------------


def test_suites_are_those_of_the_documentation():
    assert set(suites.SUITES) == {
        "gemm", "gemm-misaligned", "2of4", "low-rank", "attention", "block-sparse", "token-gemm", "elementwise",
        "launch", "bandwidth", "layer",
    }  # fmt: skip


@pytest.mark.parametrize("name", suites.SUITES)
def test_cases_are_distinct_and_complete(name):
    cases = list(suites.SUITES[name]())
    assert cases
    assert len({(case.kind, case.key) for case in cases}) == len(cases)
    for case in cases:
        assert set(case.shape) == set(COLUMNS[case.kind])
        assert case.traffic > 0
        assert "#" not in case.key, "a comment sign would cut the line"


def test_layers_are_dense_and_of_every_family_in_both_phases():
    seen = {(case.shape["method"], case.shape["phase"]) for case in suites.layer()}
    assert seen == {(method, phase) for method in ("dense", *pis.pruning.METHODS) for phase in ("prefill", "decode")}


def test_gaps_of_public_data_are_covered():
    assert {case.shape["m"] for case in suites.two_of_four()} >= {1, 2, 4, 8, 16, 32}
    assert {case.shape["how"] for case in suites.token_gemm()} == {"gather", "fused"}
    assert any(int(case.shape["k"]) % 16 for case in suites.gemm_misaligned())
    assert {case.dtype for case in suites.gemm()} == {"bf16", "fp8"}


def test_flops_and_bytes_of_a_case_are_those_of_the_trace():
    for kind, cases in (("gemm", some_gemms(20)), ("attention_decode", list(suites.attention())[-5:])):
        frame = pd.DataFrame([{"dtype": case.dtype, **case.shape} for case in cases])
        ops = kinds.get(kind).as_ops(frame)
        np.testing.assert_allclose([case.flops for case in cases], ops.flops)
        np.testing.assert_allclose([case.traffic for case in cases], ops.traffic)


@pytest.mark.parametrize(("names", "error"), [("gem", UnknownNameError), (" , ", InvalidInputError)])
def test_bad_suite_is_an_error(names, error):
    with pytest.raises(error):
        suites.select(names)


def test_some_suites_by_name():
    assert {case.suite for case in suites.select("launch, bandwidth")} == {"launch", "bandwidth"}


# --- plan ---------------------------------------------------------------------------------------------------------


def test_without_a_budget_all_runs_in_order():
    cases = suites.select("all")
    assert [step.case for step in planning.plan(cases, GPU).steps] == cases


@pytest.mark.parametrize("budget", [60.0, 480.0])
def test_budget_is_kept_and_used(budget):
    plan = planning.plan(suites.select("all"), GPU, budget=budget)
    assert 0.8 * budget < plan.wall <= budget
    assert len(plan.steps) + plan.left_out == len(suites.select("all"))


def test_budget_takes_doubtful_kinds_first():
    plan = planning.plan(suites.select("gemm,layer,attention"), GPU, budget=300.0)
    spent = {kind: wall for kind, (_, wall, _) in plan.by_kind().items()}
    assert spent["layer"] > spent["gemm"]
    assert spent["layer"] > spent["attention_decode"]


def test_first_shapes_of_a_budget_span_the_range():
    plan = planning.plan(some_gemms(300), GPU, budget=planning.STARTUP + 6.0)
    rows = [float(step.case.shape["m"]) for step in plan.steps]
    assert len(rows) < 20
    assert min(rows) == 1
    assert max(rows) == 16384


def test_what_is_done_is_not_planned():
    cases = some_gemms()
    plan = planning.plan(cases, GPU, done=frozenset({(case.kind, case.key) for case in cases[:4]}))
    assert [step.case for step in plan.steps] == cases[4:]


def test_expected_latency_is_of_the_size_of_the_prediction():
    for case in some_gemms(100):
        predicted = float(pis.gemm_latency(*(case.shape[x] for x in "mnk"), hardware=GPU))
        assert 0.3 < planning.expected_latency(case, GPU) / predicted < 4


def test_a_kind_nobody_calibrated_is_known_to_a_factor_of_two():
    assert planning.doubt_of("layer", GPU) == np.log(2.0)
    assert 0 < planning.doubt_of("gemm", GPU) <= np.log(2.0)
    assert planning.doubt_of("gemm", GPU, stack="ideal") == np.log(2.0)


@pytest.mark.parametrize("text", ["", "8 parsecs", "-3m", "0s", "m", "8"])
def test_bad_budget_is_an_error(text):
    with pytest.raises(InvalidInputError, match="budget must be a time"):
        planning.parse_budget(text)


# --- protocol -----------------------------------------------------------------------------------------------------


def test_copies_move_twice_the_cache_between_two_uses():
    protocol = Protocol()
    for traffic in (1e5, 1e6, 3e7, 1e9):
        copies = protocol.copies(traffic, 50e6)
        assert copies == protocol.max_copies or (copies - 1) * traffic >= 2 * 50e6
        assert copies >= 2


def test_a_graph_is_whole_rounds_and_long_enough():
    protocol = Protocol()
    for seconds in (1e-6, 1e-5, 1e-3, 1.0):
        for copies in (1, 2, 7, 512):
            calls = protocol.calls(seconds, copies)
            assert calls % copies == 0
            assert calls * seconds >= protocol.graph or calls > protocol.max_calls - copies


def test_digest_tells_protocols_and_software_apart():
    same = digest(Protocol(), {"torch": "2.13.0"})
    assert same == digest(Protocol(), {"torch": "2.13.0"})
    assert len({same, digest(Protocol(repeats=30), {"torch": "2.13.0"}), digest(Protocol(), {"torch": "2.14.0"})}) == 3


# --- device and monitor -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "h100-sxm"),
        ("NVIDIA H200", "h200-sxm"),
        ("NVIDIA A100-SXM4-80GB", "a100-sxm-80gb"),
        ("NVIDIA A100 80GB PCIe", "a100-pcie-80gb"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA L4", "l4"),
        ("NVIDIA GeForce RTX 5090", "rtx-5090"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "rtx-pro-6000-server"),
        ("NVIDIA GeForce RTX 5090 Laptop GPU", None),
        ("NVIDIA GeForce GTX 1080", None),
    ],
)
def test_gpu_at_hand_finds_its_profile(title, name):
    assert device.profile_name(title) == name


def test_unknown_gpu_needs_a_name():
    with pytest.raises(PruninfersimError, match="there is no profile of 'NVIDIA GeForce GTX 1080'"):
        command._profile("NVIDIA GeForce GTX 1080", None)


def test_throttling_is_told_from_idling_and_from_a_power_cap():
    lines = ["1980, 2619, 41, 302.1, 0x0000000000000001", "1410, 2619, 87, 650.0, 0x0000000000000024", "junk"]
    samples = [s for s in (monitor.parse_sample(line, 0.0) for line in lines) if s]
    assert monitor.summary(samples[:1])["throttle"] == "none"
    assert monitor.summary(samples) == {
        "sm_mhz": 1695.0, "mem_mhz": 2619.0, "temperature_c": 64.0, "power_w": 476.1,
        "throttle": "power-cap+sw-thermal",
    }  # fmt: skip


def test_gpu_that_does_not_tell_leaves_cells_empty():
    sample = monitor.parse_sample("1980, [N/A], 41, [Not Supported], [N/A]", 0.0)
    assert monitor.summary([sample])["power_w"] == ""
    assert monitor.summary([])["throttle"] == "unknown"


def test_monitor_reads_what_nvidia_smi_prints(tmp_path, monkeypatch):
    fake = tmp_path / "nvidia-smi"
    fake.write_text('#!/bin/sh\necho "$@" > "$0.args"\necho "1500, 2619, 55, 350.0, 0x8"\nexec sleep 600\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with monitor.Monitor() as running:
        while not running.samples and running.process.poll() is None:
            time.sleep(0.02)
        found = running.between(0.0, float("inf"))
    assert (found["sm_mhz"], found["throttle"]) == (1500.0, "hw-slowdown")
    asked = Path(f"{fake}.args").read_text()
    assert "--query-gpu=clocks.sm" in asked, "it only ever queries"


def test_monitor_without_nvidia_smi_says_unknown(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with monitor.Monitor() as running:
        assert running.between(0.0, 1.0)["throttle"] == "unknown"


# --- command ------------------------------------------------------------------------------------------------------


def cli(*arguments, blocked=("torch", "triton")):
    """Run the program in a new interpreter in which some packages cannot be imported."""
    code = f"""
import sys
from importlib.abc import MetaPathFinder
class Block(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Block())
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name.split(".")[0] in {blocked!r} else real(name, *a)
from pruninfersim.cli import main
sys.argv = ["pruninfersim", *{list(arguments)!r}]
main()
"""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)


def test_plan_of_everything_needs_no_torch():
    done = cli("measure", "--plan", "--suite", "all", "--gpu", "h200-sxm")
    assert done.returncode == 0, done.stderr
    assert "Plan for h200-sxm" in done.stdout
    for kind in COLUMNS:
        assert f"{kind}.csv" in done.stdout


def test_plan_with_a_budget_says_what_comes_first():
    done = cli("measure", "--plan", "--budget", "2m", "--suite", "gemm,launch")
    assert done.returncode == 0, done.stderr
    assert "Budget 2 min 00 s" in done.stdout
    assert "First: " in done.stdout


def test_without_torch_the_error_is_one_line():
    done = cli("measure", "--suite", "gemm")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "pip install 'pruninfersim[measure]'" in done.stderr


def test_without_cuda_the_error_is_one_line():
    torch = pytest.importorskip("torch", reason="needs torch (extra measure)")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    done = cli("measure", "--suite", "gemm", blocked=())
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "needs an NVIDIA GPU" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [("--suite", "gem"), ("--budget", "soon", "--plan"), ("--gpu", "h1000", "--plan"), ("--repeats", "3", "--plan")],
)
def test_bad_options_are_one_line(arguments):
    done = cli("measure", *arguments)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
