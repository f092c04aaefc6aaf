"""The benchmark scripts: they run, judge an aim at its full size only, and ask both sides of a comparison the same."""

from __future__ import annotations

import doctest
import re
import subprocess
import sys

import numpy as np
import pytest
from cases import IGNORE_PROVENANCE
from conftest import ROOT

import pruninfersim as pis

pytestmark = IGNORE_PROVENANCE


@pytest.fixture(autouse=True)
def _found(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)


def cells(text: str) -> dict[str, list[str]]:
    """First cell of each row of a Markdown table -> the others."""
    rows = [[cell.strip() for cell in line.strip("| \n").split("|")] for line in text.splitlines() if line[:2] == "| "]
    return {row[0]: [*row[1:], *[""] * (6 - len(row))] for row in rows}


def test_durations():
    from benchmarks import table

    assert doctest.testmod(table).failed == 0


@pytest.mark.slow
def test_the_table_runs_from_the_command_line_and_makes_a_page(tmp_path):
    sizes = ["--parts", "scalar,call,random", "--scalar", "2", "--random", "20", "--write", str(tmp_path / "page.md")]
    done = subprocess.run([sys.executable, "-m", "benchmarks", *sizes], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = cells(done.stdout)
    assert rows["unrelated configurations"][0] == "20"
    assert rows["loop over compare()"][0] == "2"
    # Twenty rows say nothing about a million; one call is one call.
    assert rows["unrelated configurations"][-1] == ""
    assert rows["one pis.speedup call, warm"][-1] in ("yes", "**no**")
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert cells(page) == rows
    assert "python -m benchmarks --parts scalar,call,random" in page
    assert max(len(line) for line in page.splitlines() if line[:1] not in "|p") <= 120


def test_an_unknown_part_is_an_error():
    from benchmarks.__main__ import main

    with pytest.raises(SystemExit):
        main(["--parts", "grids"])


@pytest.mark.parametrize("executor", ["here", "pool"])
def test_a_sweep_to_disk_is_the_sweep_in_memory(monkeypatch, executor):
    pytest.importorskip("pyarrow")
    from benchmarks import child, questions

    monkeypatch.setattr(questions, "MODELS", ("llama-3.2-3b",))
    monkeypatch.setattr(questions, "GPUS", ("l40s",))
    inside, outside = (child.measure(child.Order("grid", 1, out, executor)) for out in (False, True))
    # One model and GPU, all methods, 16 sparsities, 8 batches of prefill and 8 of decode, one length.
    assert inside.rows == outside.rows == len(pis.pruning.METHODS) * 16 * 16
    assert inside.written == 0 < outside.written
    assert outside.peak > 50e6  # numpy and pandas alone take that much


@pytest.mark.parametrize(("power", "shown", "met"), [(1.0, "10.0", True), (1.2, "15.8", False)])
def test_growth_and_aims_of_a_machine_whose_times_are_known(monkeypatch, power, shown, met):
    """Times that grow as size**power grow by 10**power, whatever the exact sizes are."""
    from benchmarks import child, sweeps

    def run(order):
        rows = round(1.03 * order.points) if order.points < 5_000_000 else order.points
        return child.Result(rows, 1.2 * (rows / 1e6) ** power, 500_000_000, 70 * rows)

    monkeypatch.setattr(child, "run", run)
    part, inside = sweeps.grid(1_000_000)
    growth = next(line for line in part.lines if "tenth" in line.what)
    assert float(growth.result) == pytest.approx(float(shown), rel=0.02)
    assert growth.met is met
    assert inside.seconds < 5
    assert part.lines[0].met is True
    assert all(line.met is None for line in sweeps.grid(10_000)[0].lines)


def test_dask_is_judged_against_one_process(monkeypatch):
    pytest.importorskip("distributed")
    from benchmarks import child, workers

    seconds = {"here": 30.0, "pool": 17.0, "dask": 18.0}
    monkeypatch.setattr(child, "run", lambda order: child.Result(order.points, seconds[order.executor], 1, 1))
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    last = workers.dask(20_000_000).lines[-1]
    assert (last.result, last.met) == ("1.67 times", True)
    assert workers.dask(1_000_000).lines[-1].met is None


def test_roofline_speedups_are_those_of_aiconfigurator_core():
    """Two codes, one question: static width at the roofline, in each of the ways the other side can be asked."""
    pytest.importorskip("aiconfigurator_core")
    from benchmarks import speed_of_light as light
    from benchmarks.table import table

    rows = cells(table(light.speed_of_light(12 * 160).lines))
    assert float(rows["- speedups of the two differ by, median"][1].rstrip("%")) < 0.5
    assert sum(name.startswith("aiconfigurator-core, ") for name in rows) == len(light.WAYS)


def test_three_ways_to_ask_aiconfigurator_core_agree(tmp_path):
    pytest.importorskip("aiconfigurator_core")
    from benchmarks import speed_of_light as light

    theirs = light.Theirs([light._config(tmp_path, i, s) for i, s in enumerate((0.0, 0.5))])
    passes = [("prefill", 2, 512), ("decode", 16, 4096)]
    theirs.start()
    times = {way: getattr(theirs, way)(passes) for way in light.WAYS}
    np.testing.assert_allclose(times["listed"], times["compiled"], rtol=1e-9)
    np.testing.assert_allclose(times["by_name"], times["compiled"], rtol=1e-3)


def test_the_documented_table_names_its_command():
    text = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert re.search(r"^python -m benchmarks\b", text, flags=re.MULTILINE)
