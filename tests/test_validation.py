"""`validate` and the accuracy page: closed forms of the columns, and what bad input says."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

import pruninfersim as pis
from pruninfersim import hardware
from pruninfersim.calibration import kinds, nearest, timings
from pruninfersim.calibration.record import Calibration
from pruninfersim.calibration.validate import judged_rows, ratio_half_width, validate
from pruninfersim.cost import Spread
from pruninfersim.errors import FileFormatError, InvalidInputError
from pruninfersim.kernels.base import roofline

GPU = "h100-sxm"


@pytest.fixture(scope="module")
def own() -> Calibration:
    return nearest.nearest_calibration("gemm", "bf16", hardware.get(GPU))[0]


@pytest.fixture(scope="module")
def rows(own) -> pd.DataFrame:
    """Timings that are the shipped model's own predictions."""
    m, n, k = (axis.ravel() for axis in np.meshgrid([1, 8, 256, 2048], [1024, 4096, 16384], [1024, 4096]))
    frame = pd.DataFrame({"gpu": GPU, "backend": "test", "dtype": "bf16", "m": m, "n": n, "k": k})
    return frame.assign(latency_us=1e6 * kinds.get("gemm").seconds(own.kernel, frame, hardware.get(GPU), "replayed"))


def line(table: pd.DataFrame, quantity: str = "time", regime: str = "all") -> pd.Series:
    return table[(table["quantity"] == quantity) & (table["regime"] == regime)].squeeze()


def test_own_predictions_have_no_error(rows):
    table = pis.validate(rows, GPU)
    assert line(table)["n"] == len(rows)
    assert np.abs(table[["mape", "median", "bias", "p90"]].to_numpy()).max() < 1e-12
    assert (table["coverage"] == 1.0).all()
    assert (table["provenance"] == "calibrated").all()


def test_a_constant_factor_is_bias_and_cancels_in_speedups(rows):
    table = validate(rows.assign(latency_us=rows["latency_us"] * 1.25), GPU)
    assert line(table)["mape"] == pytest.approx(0.2)
    assert line(table)["bias"] == pytest.approx(-0.2)
    assert line(table)["coverage"] == 0.0
    speedups = table[table["quantity"] == "speedup"]
    assert list(speedups["regime"]) == ["smaller m", "smaller n", "smaller k"]
    assert (speedups["mape"] < 1e-12).all()
    assert (speedups["coverage"] == 1.0).all()


def test_columns_of_errors_by_hand(rows, own):
    wrong = np.random.default_rng(1).normal(0.0, 0.2, len(rows))
    table = validate(rows.assign(latency_us=rows["latency_us"] * np.exp(wrong)), GPU)
    error = np.abs(np.exp(-wrong) - 1.0)
    got = line(table)
    assert got["mape"] == pytest.approx(error.mean())
    assert got["median"] == pytest.approx(np.median(error))
    assert got["p90"] == pytest.approx(np.quantile(error, 0.9))
    assert got["bias"] == pytest.approx(np.exp(-wrong.mean()) - 1.0)
    inside = (wrong >= own.residual.low) & (wrong <= own.residual.high)
    assert got["coverage"] == pytest.approx(inside.mean())


def test_regimes_split_the_rows(rows):
    table = validate(rows, GPU)
    times = table[table["quantity"] == "time"]
    for name in ("m ", "n*k", "waves"):
        part = times[times["regime"].str.contains(name, regex=False)]
        assert part["n"].sum() == len(rows)
    assert line(table, regime="m <= 1")["n"] == (rows["m"] == 1).sum()
    assert line(table, regime="16 < m <= 128").empty
    assert line(table, regime="m > 1024")["n"] == (rows["m"] == 2048).sum()


def test_simpler_models_stand_beside(rows):
    ops, gpu = timings.as_ops("gemm", rows), hardware.get(GPU)
    ideal = validate(rows.assign(latency_us=1e6 * roofline(ops, gpu)), GPU)
    assert line(ideal)["roofline_mape"] < 1e-12
    # The 3-parameter model holds the roofline as the limit of no floor and full rates.
    assert line(ideal)["three_parameter_mape"] < 0.05
    real = line(validate(rows, GPU))
    assert real["mape"] < real["three_parameter_mape"] < real["roofline_mape"]


def test_names_of_public_tables_pass(rows):
    renamed = rows.assign(gpu="H100-SXM5-80GB", dtype="bfloat16")
    pd.testing.assert_frame_equal(validate(renamed, GPU), validate(rows, GPU))


def test_other_gpus_are_left_out(rows):
    both = pd.concat([rows, rows.assign(gpu="l40s", latency_us=1.0)])
    assert line(validate(both, GPU))["n"] == len(rows)
    with pytest.raises(InvalidInputError, match=r"no timing is of a100-pcie-80gb; these are of h100-sxm"):
        validate(rows, "a100-pcie-80gb")


def test_a_card_without_timings_is_extrapolated_and_wider(rows, own):
    (part,) = judged_rows(rows.assign(gpu="h100-pcie"), "h100-pcie")
    assert part.provenance == "extrapolated"
    assert part.spread.half_width > own.spread.half_width


def test_a_calibration_of_ones_own_is_judged(rows):
    fitted = pis.calibrate("gemm", rows.assign(gpu="my-card"), GPU)
    table = validate(rows.assign(gpu="my-card"), GPU, calibration=fitted)
    assert line(table)["mape"] < 0.1
    other = nearest.nearest_calibration("attention_decode", "bf16", hardware.get(GPU))[0]
    with pytest.raises(InvalidInputError, match="the timings are of gemm, the calibration is of attention_decode"):
        validate(rows, GPU, calibration=other)


def test_mixed_elementwise_ops_are_split():
    gpu = "rtx-4090"
    frame = pd.DataFrame(
        {"gpu": gpu, "dtype": "bf16", "op": ["rmsnorm", "act", "norm"] * 4, "m": 64, "k": 4096, "latency_us": 3.0}
    )
    with pytest.raises(InvalidInputError, match="no elementwise kind has op rmsnorm"):
        validate(frame, gpu)
    table = validate(frame[frame["op"] != "rmsnorm"], gpu)
    assert set(table["kind"]) == {"elementwise_norm", "elementwise_act"}


def test_twins_give_the_speedup_of_2of4():
    gpu, spec = "rtx-4090", kinds.get("gemm_2of4")
    frame = pd.DataFrame({"gpu": gpu, "dtype": "bf16", "sparsity": ["dense", "2:4"] * 3, "n": 4096, "k": 4096})
    frame["m"] = np.repeat([64, 512, 4096], 2)
    kernel = nearest.nearest_calibration("gemm_2of4", "bf16", hardware.get(gpu))[0].kernel
    frame["latency_us"] = 1e6 * spec.seconds(kernel, frame, hardware.get(gpu), "replayed")
    exact = line(validate(frame, gpu), "speedup", "dense to 2:4")
    assert exact["n"] == 3
    assert exact["mape"] < 1e-12
    slow = frame.assign(latency_us=frame["latency_us"] * np.where(frame["sparsity"] == "2:4", 2.0, 1.0))
    halved = line(validate(slow, gpu), "speedup", "dense to 2:4")
    assert halved["coverage"] == 0.0
    assert np.isnan(line(validate(frame, gpu))["coverage"])


def test_bad_input_is_named(rows):
    with pytest.raises(FileFormatError, match="line 0: latency_us is -1"):
        validate(rows.assign(latency_us=-1.0), GPU)
    with pytest.raises(InvalidInputError, match="cache must be"):
        validate(rows, GPU, cache="warm")


def test_ratio_half_width_by_hand():
    assert ratio_half_width(Spread(-0.1, 0.3, 0.0)) == pytest.approx(0.2 * np.sqrt(2.0))
    assert ratio_half_width(Spread(-0.1, 0.3, 1.0)) == 0.0


def test_published_rows_are_usable():
    table = pd.read_csv(ROOT / "validation" / "published_steps.csv")
    assert set(table["family"]) <= {"dense", *pis.pruning.METHODS}
    assert set(table["gpu"]) <= set(hardware.names())
    assert table["source"].notna().all()
    pruned = table["family"] != "dense"
    assert table.loc[pruned, ["speedup", "sparsity"]].notna().all(axis=None)
    assert table.loc[~pruned, "dense_ms"].notna().all()


def test_page_script_without_its_data_says_so(tmp_path):
    page = ROOT / "docs" / "accuracy.md"
    before = page.read_text(encoding="utf-8")
    script = ROOT / "validation" / "make_accuracy_page.py"
    done = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("skipped: ")
    assert page.read_text(encoding="utf-8") == before


def test_command_validate_prints_the_table(run, rows, tmp_path):
    file = tmp_path / "mine.csv"
    rows.to_csv(file, index=False)
    code, out, err = run("validate", "--gpu", GPU, "--timings", file, "--format", "csv")
    assert (code, err) == (0, "")
    pd.testing.assert_frame_equal(
        pd.read_csv(io.StringIO(out)).drop(columns="gpu"),
        validate(timings.read_timings(file), GPU),
        check_dtype=False,
        check_like=True,  # what identifies a row comes first
        rtol=1e-3,
        atol=1e-9,
    )


def test_command_calibrate_prints_and_writes_the_coefficients(run, rows, tmp_path):
    file, out_file = tmp_path / "mine.csv", tmp_path / "fit.toml"
    rows.to_csv(file, index=False)
    code, out, err = run("calibrate", "gemm", "--gpu", GPU, "--timings", file, "--out", out_file, "--format", "csv")
    assert (code, err) == (0, "")
    printed = pd.read_csv(io.StringIO(out)).set_index("parameter")["value"]
    written = Calibration.from_toml(out_file)
    for name, value in printed.items():
        assert getattr(written.kernel, name) == pytest.approx(value, rel=1e-3)


@pytest.mark.parametrize("command", ["calibrate", "validate"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either --timings FILE or --from aiconfigurator"),
        (["--from", "somewhere"], "--from knows aiconfigurator only; got 'somewhere'"),
        (["--timings", "absent.csv"], "absent.csv: there is no such file"),
        (["--timings", "absent.csv", "--from", "aiconfigurator"], "give either"),
    ],
)
def test_commands_explain_bad_input_in_one_line(run, command, arguments, message):
    code, out, err = run(command, *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("kind", ["attention_prefill", "attention_decode", "gemm"])
def test_measured_timings_are_predicted_better_than_by_three_parameters(validation_data, kind):
    file = next(validation_data.rglob(f"{kind}_aiconfigurator.csv.gz"))
    frame = timings.read_timings(file, kind=kind)
    frame = frame[frame["dtype"] == "bf16"]
    if kind == "attention_prefill":
        frame = frame[frame["q_len"] > 1]
    table = line(validate(frame, GPU, kind=kind))
    assert table["mape"] < 0.6 * table["three_parameter_mape"]
    assert 0.8 < table["coverage"] < 0.97
