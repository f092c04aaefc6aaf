"""Files of timings and the run that writes them, without torch and without a GPU."""

from __future__ import annotations

import pandas as pd
import pytest
from cases import some_gemms

import pruninfersim as pis
from pruninfersim.calibration import kinds, timings
from pruninfersim.errors import FileFormatError, InvalidInputError
from pruninfersim.kernels.gemm import Gemm
from pruninfersim.measure import fit, planning, records, runner, suites
from pruninfersim.measure.cases import COLUMNS, Case

GPU = pis.hardware.get("h100-sxm")
RESULT = {
    "latency_us": 12.5, "spread": 0.01, "repeats": 25, "calls": 160, "copies": 4, "error": 0.002, "sm_mhz": 1980.0,
    "mem_mhz": 2619.0, "temperature_c": 41.0, "power_w": 302.2, "throttle": "none",
}  # fmt: skip


def recorder(folder, digest="abc"):
    header = {"device": "a GPU", "torch": "2.13.0", "protocol": {"repeats": 25}}
    return records.Recorder(folder, header, digest, gpu="h100-sxm", backend="torch 2.13.0")


# --- files --------------------------------------------------------------------------------------------------------


def test_file_has_header_timings_and_failures(tmp_path):
    first, second = some_gemms(2)
    writer = recorder(tmp_path)
    writer.success(first, RESULT)
    writer.failure(second, "RuntimeError: out\nof memory")
    lines = writer.path("gemm").read_text().splitlines()
    comments = [line for line in lines if line.startswith("#")]
    assert lines[0] == records.MAGIC
    assert "# device: a GPU" in comments
    assert '# protocol: {"repeats": 25}' in comments
    assert "# digest: abc" in comments
    assert comments[-1].startswith("# failed {")
    assert "out of memory" in comments[-1]
    assert [line for line in lines if not line.startswith("#")] == [
        ",".join(records.columns_of("gemm")),
        "h100-sxm,torch 2.13.0,bf16,1,4096,4096,12.5,0.01,25,160,4,0.002,1980,2619,41,302.2,none",
    ]


def test_resume_skips_what_is_done_and_what_failed(tmp_path):
    first, second, third = some_gemms(3)
    writer = recorder(tmp_path)
    writer.success(first, RESULT)
    writer.failure(second, "too hot")
    assert recorder(tmp_path).resume({"gemm", "layer"}) == {("gemm", first.key), ("gemm", second.key)}
    assert recorder(tmp_path).resume({"gemm"}, retry_failed=True) == {("gemm", first.key)}
    recorder(tmp_path).success(third, RESULT)
    assert len(recorder(tmp_path).resume({"gemm"})) == 3


@pytest.mark.parametrize("cut", range(1, 100, 7))
def test_a_line_that_a_kill_cut_off_is_taken_again(tmp_path, cut):
    first, second = some_gemms(2)
    writer = recorder(tmp_path)
    writer.success(first, RESULT)
    whole = writer.path("gemm").read_bytes()
    writer.success(second, RESULT)
    line = writer.path("gemm").read_bytes()[len(whole) :]
    writer.path("gemm").write_bytes(whole + line[: min(cut, len(line) - 1)])
    assert recorder(tmp_path).resume({"gemm"}) == {("gemm", first.key)}
    assert writer.path("gemm").read_bytes() == whole


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9])
def test_a_header_that_a_kill_cut_off_is_written_again(tmp_path, share):
    (case,) = some_gemms(1)
    writer = recorder(tmp_path)
    writer.success(case, RESULT)
    head = writer.path("gemm").read_bytes().rpartition(b"\nh100")[0]
    writer.path("gemm").write_bytes(head[: int(share * len(head))])
    assert recorder(tmp_path).resume({"gemm"}) == frozenset()
    writer.success(case, RESULT)
    assert recorder(tmp_path).resume({"gemm"}) == {("gemm", case.key)}


def test_timings_under_other_conditions_are_not_mixed(tmp_path):
    recorder(tmp_path).success(some_gemms(1)[0], RESULT)
    with pytest.raises(FileFormatError, match=r"digest abc, now xyz.*Choose another --out"):
        recorder(tmp_path, digest="xyz").resume({"gemm"})


def test_a_file_of_something_else_is_left_alone(tmp_path):
    path = tmp_path / "gemm.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(FileFormatError, match="not a file of gemm timings"):
        recorder(tmp_path).resume({"gemm"})
    assert path.read_text() == "a,b\n1,2\n"


def written(tmp_path, cases, latency_us):
    writer = recorder(tmp_path)
    for number, (case, latency) in enumerate(zip(cases, latency_us, strict=True)):
        writer.success(case, {**RESULT, "latency_us": float(latency)})
        if number % 10 == 0:
            writer.failure(Case("t", "gemm", "bf16", {"m": 3, "n": 5, "k": 7 + number}), "too hot")
    return writer.path("gemm")


def truth(cases):
    """A GPU that follows the kernel model with other coefficients than those a fit starts from."""
    kernel = Gemm(compute_efficiency=0.6, memory_efficiency=0.7, launch=4e-6)
    frame = pd.DataFrame([{"dtype": case.dtype, **case.shape} for case in cases])
    return kernel, kernel.latency(timings.as_ops("gemm", frame), GPU, cache="cold") * 1e6


def test_files_can_be_calibrated_with(tmp_path):
    from pruninfersim.calibration import calibrate

    cases = some_gemms(300)[::2]
    kernel, latency = truth(cases)
    text = pd.read_csv(written(tmp_path, cases, latency), comment="#", dtype=str, keep_default_na=False)
    frame = timings.parse(text, kind="gemm")
    assert len(frame) == len(cases)
    found = calibrate("gemm", frame, GPU, cache="cold")
    assert found.held_out_error < 0.02
    assert found.kernel.compute_efficiency == pytest.approx(kernel.compute_efficiency, rel=0.05)
    assert found.kernel.memory_efficiency == pytest.approx(kernel.memory_efficiency, rel=0.05)


def test_a_folder_of_timings_becomes_a_stack(tmp_path):
    cases = some_gemms(300)[::3]
    written(tmp_path, cases, truth(cases)[1])
    (calibration,) = fit.fit_folder(tmp_path)
    assert (calibration.kind, calibration.dtype, calibration.hardware) == ("gemm", "bf16", "h100-sxm")
    assert calibration.cache == "cold"
    shipped = pis.stacks.get("vendor", GPU)
    measured = pis.stacks.vendor(GPU, [calibration])
    assert measured.stack == "vendor, own gemm"
    moved = {key for key in shipped.kernels if measured.kernels[key].model != shipped.kernels[key].model}
    dynamic = {"column_gemm", "group_gemm_n", "group_gemm_k", "fine_gemm_n", "fine_gemm_k", "exit_gemm"}
    shared = {"shared_head", "shared_gemm"}
    weights = {"gemm", "lm_head", "router", "gemm_2of4", "gemm_unstructured", "token_gemm"} | shared
    wide = {key for key in moved if "/" not in key}
    assert wide == weights | dynamic, "every kernel that contains a GEMM"
    # A fit of 16-bit operands speaks for narrow ones too, and for weights that are widened on the way.
    assert {"gemm/fp8", "gemm/int8", "gemm/int4_wo", "token_gemm/fp8"} <= moved
    assert not {"gemm/fp8_block", "gemm/nvfp4"} & moved
    trace = pis.trace("llama-3.1-8b", pis.Workload.decode())
    slower = float(measured.predict(trace).latency) / float(shipped.predict(trace).latency)
    assert 1.0 < slower < 2.0, "the made-up GPU reaches less of its bandwidth"


def test_one_side_of_a_ratio_is_not_fitted(tmp_path):
    cases = [case for case in suites.two_of_four() if case.shape["sparsity"] == "dense"]
    for case in cases:
        recorder(tmp_path).success(case, RESULT)
    with pytest.raises(InvalidInputError, match="no file with at least 8 timings to fit"):
        fit.fit_folder(tmp_path)


def test_a_budget_that_took_few_shapes_of_one_kind_fits_the_others(tmp_path):
    """A calibration needs eight rows; a run under a budget takes as few of a kind as it has time for."""
    few = list(suites.attention())[:6]
    for number, case in enumerate(few):
        recorder(tmp_path).success(case, {**RESULT, "latency_us": 10.0 + number})
    cases = some_gemms(12)
    written(tmp_path, cases, truth(cases)[1])
    assert [found.kind for found in fit.fit_folder(tmp_path)] == ["gemm"]


def test_fit_command_writes_calibrations(tmp_path, capsys):
    from pruninfersim.calibration.record import Calibration

    cases = some_gemms(12)
    written(tmp_path, cases, truth(cases)[1])
    assert fit.main([str(tmp_path)]) == 0
    assert "Calibration of gemm on h100-sxm" in capsys.readouterr().out
    saved = Calibration.from_toml(tmp_path / "calibrations" / "h100-sxm" / "gemm-bf16.toml")
    assert saved.n_rows == 12
    assert fit.main([str(tmp_path / "nowhere")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_read_timings_takes_the_file_as_it_is(tmp_path):
    cases = some_gemms(12)
    path = written(tmp_path, cases, truth(cases)[1])
    frame = timings.read_timings(path)
    assert frame.attrs["kind"] == "gemm"
    assert frame["m"].tolist() == [float(case.shape["m"]) for case in cases]


@pytest.mark.parametrize("kind", [kind for kind in COLUMNS if kind in kinds.KERNELS])
def test_columns_are_those_that_calibration_needs(kind):
    spec = kinds.get(kind)
    assert {*spec.shape, *spec.labels} <= set(records.columns_of(kind))


# --- run ----------------------------------------------------------------------------------------------------------


def test_a_run_records_failures_and_goes_on(tmp_path):
    cases = some_gemms(5)

    def execute(step):
        if step.case is cases[1]:
            raise RuntimeError("CUDA out of memory.\nTried to allocate 2 GiB")
        return RESULT

    outcome = runner.run(planning.plan(cases, GPU), recorder(tmp_path), execute)
    assert (outcome.timed, list(outcome.failed)) == (4, [cases[1]])
    assert outcome.failed[cases[1]] == "RuntimeError: CUDA out of memory. Tried to allocate 2 GiB"
    assert len(recorder(tmp_path).resume({"gemm"}, retry_failed=True)) == 4


def test_a_killed_run_resumes_where_it_was(tmp_path):
    cases, seen = some_gemms(6), []

    def execute(step):
        if len(seen) == 3:
            raise KeyboardInterrupt
        seen.append(step.case)
        return RESULT

    with pytest.raises(KeyboardInterrupt):
        runner.run(planning.plan(cases, GPU), recorder(tmp_path), execute)
    again = recorder(tmp_path)
    plan = planning.plan(cases, GPU, done=again.resume({"gemm"}))
    assert [step.case for step in plan.steps] == cases[3:]
    runner.run(plan, again, lambda step: RESULT)
    assert len(recorder(tmp_path).resume({"gemm"})) == 6


def test_a_lost_context_ends_the_run_but_not_the_next(tmp_path):
    cases = some_gemms(4)

    def execute(step):
        if step.case is cases[1]:
            raise runner.ContextLostError("illegal memory access")
        return RESULT

    with pytest.raises(runner.ContextLostError):
        runner.run(planning.plan(cases, GPU), recorder(tmp_path), execute)
    done = recorder(tmp_path).resume({"gemm"})
    assert [step.case for step in planning.plan(cases, GPU, done=done).steps] == cases[2:]


def test_a_run_ends_when_its_budget_is_spent(tmp_path):
    plan = planning.plan(some_gemms(6), GPU, budget=60.0)
    ticks = iter(range(0, 1000, 25))
    outcome = runner.run(plan, recorder(tmp_path), lambda step: RESULT, clock=lambda: next(ticks))
    assert (outcome.timed, outcome.not_reached) == (2, 4)
