"""Sweeps on disk: parts are whole or absent, and a killed run resumes to the same data set."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import pruninfersim as pis
from pruninfersim.errors import FileFormatError, InvalidInputError
from pruninfersim.sweep import parts as _parts
from pruninfersim.sweep import sweep

pytest.importorskip("pyarrow", reason="needs pyarrow, the optional extra 'parquet'")
import pyarrow.parquet as pq

#: The same question here and in the process that is killed.
QUESTION = {
    "models": ["llama-3.1-8b", "qwen3-14b"],
    "hardware": ["h100-sxm", "l40s", "a100-sxm-80gb"],
    "methods": ["static-width", "dynamic-depth"],
    "sparsity": [0.1, 0.3, 0.5],
    "stacks": "ideal",
}
CONTEXTS = tuple(range(16, 3016))
KEYS = ["model", "hardware", "method", "sparsity", "context"]


def ask(out: Path | None = None, **changes) -> pd.DataFrame:
    return sweep(**({"workloads": pis.Workload.decode(4, CONTEXTS)} | QUESTION | changes), out=out)


def parts(folder: Path) -> list[Path]:
    """What a reader of a Parquet directory sees: names that begin with a dot or an underscore are skipped."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name[0] not in "._")


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in parts(folder)}


def in_order(frame: pd.DataFrame) -> pd.DataFrame:
    text = frame.select_dtypes("category").columns
    plain = frame.assign(**{name: frame[name].astype(str) for name in text})
    return plain.sort_values(KEYS, ignore_index=True)[sorted(frame.columns)]


def test_parts_hold_what_the_frame_holds(tmp_path):
    listed = ask(tmp_path / "out", workloads=pis.Workload.decode(4, [64, 128]))
    whole = ask(workloads=pis.Workload.decode(4, [64, 128]))
    assert listed.rows.sum() == len(whole)
    assert [str(path.relative_to(tmp_path / "out")) for path in parts(tmp_path / "out")] == sorted(listed.part)
    read = pd.read_parquet(tmp_path / "out")
    pd.testing.assert_frame_equal(in_order(read), in_order(whole), check_dtype=False, check_exact=True)


def test_partitions_are_found_by_name(tmp_path):
    ask(tmp_path / "out", workloads=pis.Workload.decode(4, 64))
    one = pd.read_parquet(tmp_path / "out", filters=[("model", "==", "qwen3-14b"), ("hardware", "==", "l40s")])
    assert len(one) == 6
    assert (one.model == "qwen3-14b").all()


def test_executor_writes_the_same_data_set(tmp_path):
    small = {"workloads": pis.Workload.decode(4, [64, 128])}
    ask(tmp_path / "here", **small)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
        ask(tmp_path / "there", **small, executor=executor)
    assert content(tmp_path / "here") == content(tmp_path / "there")


def test_a_finished_run_evaluates_nothing_again(tmp_path, monkeypatch):
    first = ask(tmp_path / "out", workloads=pis.Workload.decode(4, 64))

    def never(*_):
        raise AssertionError("evaluated again")

    monkeypatch.setattr(_parts, "write_parts", never)
    pd.testing.assert_frame_equal(ask(tmp_path / "out", workloads=pis.Workload.decode(4, 64)), first)


def test_a_lost_part_is_written_again(tmp_path):
    ask(tmp_path / "out", workloads=pis.Workload.decode(4, 64))
    before = content(tmp_path / "out")
    parts(tmp_path / "out")[2].unlink()
    ask(tmp_path / "out", workloads=pis.Workload.decode(4, 64))
    assert content(tmp_path / "out") == before


def test_a_failed_write_leaves_no_part(tmp_path, monkeypatch):
    def half(self, path, **_):
        Path(path).write_bytes(b"PAR1 half of a file")
        raise OSError("no space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(pd.DataFrame, "to_parquet", half)
        with pytest.raises(OSError, match="no space"):
            ask(tmp_path / "out", workloads=pis.Workload.decode(4, 64))
    assert parts(tmp_path / "out") == []
    ask(tmp_path / "out", workloads=pis.Workload.decode(4, 64))
    assert len(pd.read_parquet(tmp_path / "out")) == 36


CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_runs import ask
ask(Path(sys.argv[1]))
"""


def start(out: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", CHILD, str(out), str(Path(__file__).parent)])


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="the platform has no SIGKILL")
def test_a_killed_run_resumes_to_the_same_data_set(tmp_path):
    ask(tmp_path / "whole")
    expected = content(tmp_path / "whole")
    out = tmp_path / "killed"
    kills = 0
    for enough in (1, 3, 4):
        child = start(out)
        deadline = time.monotonic() + 60
        while child.poll() is None and len(parts(out)) < enough and time.monotonic() < deadline:
            for part in parts(out):  # a part that can be seen can be read, at any moment
                assert pq.ParquetFile(part).metadata.num_rows > 0
            time.sleep(0.001)
        if child.poll() is None:
            os.kill(child.pid, signal.SIGKILL)
            kills += 1
        child.wait()
        left = content(out)
        assert left.items() <= expected.items(), "a part of a killed run differs from the finished one"
    assert kills, "no run lasted long enough to be killed"
    assert len(left) < len(expected), "nothing was left to resume"
    ask(out)
    assert content(out) == expected
    pd.testing.assert_frame_equal(pd.read_parquet(out), pd.read_parquet(tmp_path / "whole"), check_exact=True)
    values = pd.read_parquet(out)
    pd.testing.assert_frame_equal(in_order(values), in_order(ask()), check_dtype=False, check_exact=True)
    assert np.isfinite(values.estimated_speedup).all()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="the platform has no SIGKILL")
def test_what_a_kill_leaves_half_written_is_not_read(tmp_path):
    out = tmp_path / "out"
    ask(out, workloads=pis.Workload.decode(4, 64))
    torn = parts(out)[0]
    whole = torn.read_bytes()
    torn.with_name(f".{torn.name}.1.tmp").write_bytes(whole[: len(whole) // 2])
    assert len(pd.read_parquet(out)) == 36


@pytest.mark.parametrize(
    "change", [{"sparsity": [0.2]}, {"models": "qwen3-8b"}, {"hardware": "b200-sxm"}, {"dtype": "fp8"}]
)
def test_a_directory_of_another_sweep_is_refused(tmp_path, change):
    small = {"workloads": pis.Workload.decode(4, 64), "hardware": "h100-sxm"}
    ask(tmp_path / "out", **small)
    before = content(tmp_path / "out")
    with pytest.raises(InvalidInputError, match="another sweep"):
        ask(tmp_path / "out", **(small | change))
    assert content(tmp_path / "out") == before


def test_a_changed_profile_is_another_sweep(tmp_path):
    gpu = pis.hardware.get("h100-sxm")
    small = {"workloads": pis.Workload.decode(4, 64)}
    ask(tmp_path / "out", **small, hardware=gpu)
    with pytest.raises(InvalidInputError, match="another sweep"):
        ask(tmp_path / "out", **small, hardware=gpu.clone("h100-sxm", memory_bandwidth=4e12))


def test_a_directory_with_other_files_is_refused(tmp_path):
    (tmp_path / "letter.txt").write_text("dear reader")
    with pytest.raises(InvalidInputError, match="not empty"):
        ask(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_broken_plan_is_named(tmp_path):
    (tmp_path / "_plan.json").write_text("{")
    with pytest.raises(FileFormatError, match=r"_plan\.json"):
        ask(tmp_path)
