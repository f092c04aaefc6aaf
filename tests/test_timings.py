"""Reading timings: every bad line is named, nothing is dropped, public tables come out in the same form."""

from __future__ import annotations

import gzip
import importlib.util
from pathlib import Path

import pandas as pd
import pytest

from pruninfersim.calibration import timings
from pruninfersim.calibration.aiconfigurator import GRID_M, GRID_NK
from pruninfersim.calibration.timings import as_ops, parse, read_timings
from pruninfersim.errors import FileFormatError, MissingValueError, UnknownNameError

HEADER = "gpu,backend,dtype,m,n,k,latency_us\n"
GOOD = "H100-SXM5-80GB,mine,bfloat16,1,4096,4096,12.5\nh100-sxm,,fp8,16,4096,14336,20\n"


def written(path: Path, text: str) -> Path:
    file = path / "timings.csv"
    file.write_text(text)
    return file


def test_reads_names_and_numbers(tmp_path: Path) -> None:
    frame = read_timings(written(tmp_path, HEADER + GOOD))
    assert frame["gpu"].tolist() == ["h100-sxm", "h100-sxm"]
    assert frame["dtype"].tolist() == ["bf16", "fp8"]
    assert frame["latency_us"].tolist() == [12.5, 20.0]
    assert frame["k"].tolist() == [4096.0, 14336.0]
    assert frame.attrs == {"kind": "gemm", "source": "timings.csv"}


def test_reads_gzip(tmp_path: Path) -> None:
    file = tmp_path / "timings.csv.gz"
    file.write_bytes(gzip.compress((HEADER + GOOD).encode()))
    assert len(read_timings(file)) == 2


def test_backend_is_optional(tmp_path: Path) -> None:
    frame = read_timings(written(tmp_path, "gpu,dtype,m,n,k,latency_us\nx,bf16,1,2,3,4\n"))
    assert "backend" not in frame


def test_bad_lines_are_named_with_number_and_reason(tmp_path: Path) -> None:
    bad = "h100-sxm,,bf16,1,4096,-3,12\nh100-sxm,,bf16,1,4096,64,\nh100-sxm,,bf32,one,4096,64,inf\n"
    with pytest.raises(FileFormatError) as caught:
        read_timings(written(tmp_path, HEADER + GOOD + bad))
    message = str(caught.value)
    assert "timings.csv: 3 of 5 lines are bad" in message
    assert "line 4: k is '-3', not a positive number" in message
    assert "line 5: latency_us is ''" in message
    assert "line 6: dtype 'bf32' is not one of bf16" in message
    assert "m is 'one'" in message
    assert "latency_us is 'inf'" in message
    assert "nothing was read" in message


def test_many_bad_lines_are_counted(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=r"20 of 20 lines are bad.*; and 15 more"):
        read_timings(written(tmp_path, HEADER + "h100-sxm,,bf16,1,4096,0,12\n" * 20))


def test_blank_line_is_a_bad_line(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="line 3: gpu is empty"):
        read_timings(written(tmp_path, HEADER + "h100-sxm,,bf16,1,4096,4,12\n,,,,,,\n"))


def test_missing_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=r"no column gpu, latency_us\. A gemm file has gpu, dtype, latency_us, m"):
        read_timings(written(tmp_path, "dtype,m,n,k,time\nbf16,1,2,3,4\n"), kind="gemm")
    with pytest.raises(FileFormatError, match="fit no kind of kernel"):
        read_timings(written(tmp_path, "a,b\n1,2\n"))


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="no such file"):
        read_timings(tmp_path / "none.csv")
    with pytest.raises(FileFormatError, match="not a readable CSV"):
        read_timings(written(tmp_path, ""))
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(FileFormatError, match=r"binary\.csv"):
        read_timings(tmp_path / "binary.csv")


def test_unknown_kind(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'gemm'"):
        read_timings(written(tmp_path, HEADER + GOOD), kind="gem")


def test_frames_are_not_changed() -> None:
    frame = pd.DataFrame({"gpu": ["L40S"], "dtype": ["bfloat16"], "m": [1], "n": [2], "k": [3], "latency_us": [4]})
    before = frame.copy()
    assert parse(frame)["gpu"].tolist() == ["l40s"]
    pd.testing.assert_frame_equal(frame, before)


def test_as_ops_has_one_op_per_row(tmp_path: Path) -> None:
    ops = as_ops("gemm", read_timings(written(tmp_path, HEADER + GOOD)))
    assert ops.shape == (2,)
    assert ops.dtype == ("bf16", "fp8")
    assert ops.b_traffic.tolist() == [2 * 4096 * 4096, 4096 * 14336]
    assert ops.flops.tolist() == [2 * 4096**2, 2 * 16 * 4096 * 14336]


# --- aiconfigurator -----------------------------------------------------------------------------------------------

pyarrow = pytest.mark.skipif(importlib.util.find_spec("pyarrow") is None, reason="pyarrow is an optional dependency")


def package(root: Path) -> Path:
    """A package folder with two tiny tables in the layout of the release."""
    for folder, framework, source in (
        ("trtllm/1.3.0rc20", "TRTLLM", "torch_flow"),
        ("sglang/0.5.14", "SGLang", "sglang_torch_linear"),
    ):
        file = root / "systems/data/h100_sxm/gemm" / folder / "gemm_perf.parquet"
        file.parent.mkdir(parents=True)
        rows = [
            ("bfloat16", 8, 4096, 4096),
            ("fp8", 8, 4096, 4096),
            ("bfloat16", 9, 4096, 4096),
            ("nvfp4", 8, 4096, 4096),
        ]
        table = pd.DataFrame(rows, columns=["gemm_dtype", "m", "n", "k"])
        table = table.assign(latency=0.0123456, framework=framework, version=folder.split("/")[1], kernel_source=source)
        table.to_parquet(file)
    return root


@pyarrow
def test_aiconfigurator_has_the_rows_and_form_of_a_timings_file(tmp_path: Path) -> None:
    frame = timings.aiconfigurator("h100-sxm", root=package(tmp_path))
    assert frame["backend"].tolist() == [
        "sglang 0.5.14 sglang_torch_linear", "trtllm 1.3.0rc20 torch_flow", "trtllm 1.3.0rc20 torch_flow",
    ]  # fmt: skip
    assert frame["dtype"].tolist() == ["bf16", "bf16", "fp8"]
    assert set(frame["latency_us"]) == {12.346}
    assert len(timings.aiconfigurator("h100_sxm", root=tmp_path, grid=False)) == 5


@pyarrow
def test_aiconfigurator_without_its_tables(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=r"not a GEMM table of aiconfigurator-core 0\.12\.0"):
        timings.aiconfigurator("l40s", root=tmp_path)


def test_aiconfigurator_names() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'h100-sxm'"):
        timings.aiconfigurator("h100-sxn")
    with pytest.raises(UnknownNameError, match="gemm"):
        timings.aiconfigurator("h100-sxm", "attention")
    if importlib.util.find_spec("aiconfigurator_core") is None:
        with pytest.raises(MissingValueError, match=r"pip install 'pruninfersim\[aiconfigurator\]'"):
            timings.aiconfigurator("h100-sxm")


def test_shapes_of_the_shipped_fits_are_those_of_the_reference_file(validation_data: Path) -> None:
    frame = read_timings(validation_data / "timings" / "gemm_aiconfigurator.csv.gz", kind="gemm")
    assert set(frame["m"]) == set(GRID_M)
    assert set(frame["n"]) == set(frame["k"]) == set(GRID_NK)
