"""Faults on disk and beside it: a sample of `validation/faults.py`, and what a directory says afterwards."""

from __future__ import annotations

import json
import warnings

import pandas as pd
import pytest
from conftest import script

import pruninfersim as pis
from pruninfersim.errors import CannotWriteError, DamagedPartWarning, InvalidInputError, PruninfersimError

pytest.importorskip("pyarrow", reason="needs pyarrow, the optional extra 'parquet'")
pytest.importorskip("resource", reason="needs POSIX")
faults = script("faults")


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setitem(faults.QUESTION, "workloads", pis.Workload.decode(4, [64, 128]))
    monkeypatch.setitem(faults.QUESTION, "stacks", "ideal")


@pytest.fixture
def whole(tmp_path, _small):
    faults.ask(tmp_path / "whole")
    return faults.content(tmp_path / "whole")


def test_a_corrupt_part_is_evaluated_again_and_named(tmp_path, whole):
    outcome = faults.corrupt_parts(15, tmp_path, whole)
    assert (outcome.injected, outcome.wrong) == (15, [])
    assert "evaluated again: model=" in outcome.said


def test_a_directory_without_checksums_is_written_again(tmp_path, whole):
    out = tmp_path / "whole"
    for file in out.rglob("_part-*.sha256"):
        file.unlink()
    with pytest.warns(DamagedPartWarning, match=r"4 parts .* have no checksum.*and 1 more"):
        faults.ask(out)
    assert faults.content(out) == whole
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        faults.ask(out)


def test_folders_that_take_no_files(tmp_path):
    outcome = faults.unwritable(tmp_path)
    assert (outcome.injected, outcome.wrong) == (12, [])


def test_a_full_disk_is_one_line_and_leaves_whole_parts(tmp_path, monkeypatch, whole):
    written = pd.DataFrame.to_parquet

    def half(self, path, **_):
        if "000002" in str(path):
            path.write_bytes(b"PAR1 half of a file")
            raise OSError(28, "No space left on device")
        written(self, path, index=False)

    out = tmp_path / "full"
    with monkeypatch.context() as broken:
        broken.setattr(pd.DataFrame, "to_parquet", half)
        with pytest.raises(CannotWriteError, match=r"No space left on device\. What was written stays") as caught:
            faults.ask(out)
    assert isinstance(caught.value, PruninfersimError)
    assert isinstance(caught.value, OSError)
    left = faults.content(out)
    assert 0 < len(left) < len(whole)
    assert left.items() <= whole.items()
    faults.ask(out)
    assert faults.content(out) == whole


def test_a_dead_worker_is_one_line(tmp_path, whole):
    outcome = faults.dead_worker(tmp_path, whole)
    assert outcome.wrong == []
    assert "a worker of the executor has died" in outcome.said


def test_of_two_plans_that_come_at_once_one_is_first(tmp_path, monkeypatch):
    """The second one has looked before the first one wrote, and comes after it."""
    from pruninfersim.sweep import parts

    out = tmp_path / "out"
    written = parts.atomically

    def late(path, write, **options):
        if path.name == parts.PLAN:
            path.write_text(json.dumps({"digest": "of another sweep", "parts": 1}))
        written(path, write, **options)

    monkeypatch.setattr(parts, "atomically", late)
    with pytest.raises(InvalidInputError, match="another sweep"):
        faults.ask(out)
    assert json.loads((out / parts.PLAN).read_text())["digest"] == "of another sweep"
    assert faults.content(out) == {}


def test_names_that_are_paths_or_html_stay_names(tmp_path):
    assert faults.hostile_names(tmp_path).wrong == []
