"""Configurations and printed results of the reference study: what is read, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

import pruninfersim as pis
from pruninfersim.errors import FileFormatError, MissingValueError
from pruninfersim.pruning.study import FAMILIES, read_results, read_study

pytest.importorskip("yaml")

STUDY = """
model: meta-llama/Llama-3.1-8B
pruning:
  - {type: static, target: NK, sparsity: 0.5, estimated_sparsity: -1}
  - type: dynamic_nk
    target: attention
    sparsity: 0.3
    estimated_sparsity: 0.42
  - {type: static_m, target: all, sparsity: 0.9, enabled: false}
"""


@pytest.fixture
def written(tmp_path):
    def write(text, name="study.yaml"):
        file = tmp_path / name
        file.write_text(text, encoding="utf-8")
        return file

    return write


def test_the_estimate_or_the_given_sparsity(written):
    width, attention = read_study(written(STUDY))
    assert (width.name, width.sparsity) == ("static-width", 0.5)
    assert attention.name == "sparse-attention"
    assert (attention.sparsity.attention, attention.sparsity.mlp) == (0.42, 0.0)


def test_every_family_of_the_study_by_both_spellings(written):
    """Each is the method here whose name the taxonomy gives it, and prunes a trace."""
    dense = pis.trace("llama-3.2-1b", pis.Workload.decode())
    for family, name in FAMILIES.items():
        apart = "type: {}\ntarget: {}\n".format(*family.split("_", 1))
        together = f"type: {family}\ntarget: all\n"
        for text in (apart, together):
            (method,) = read_study(written(text + "estimated_sparsity: -1\n"), 0.5)
            assert (method.name, method.sparsity) == (name, 0.5)
            assert dense.prune(method).applied[0].asked == pytest.approx(0.5)


def test_blocks_of_one_family_go_together(written):
    entries = "".join(f"- {{type: static_nk, target: {b}, sparsity: {s}}}\n" for b, s in (("attn", 0.25), ("ffn", 0.5)))
    (method,) = read_study(written(entries))
    assert (method.sparsity.attention, method.sparsity.mlp) == (0.25, 0.5)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("type: !!python/object/apply:os.system [true]\ntarget: NK\n", "YAML tag in line 1"),
        ("a: &x {type: static, target: M}\nb: *x\n", "YAML anchor in line 1"),
        ("type: static\ntype: dynamic\ntarget: M\n", "key 'type' twice"),
        ("type: static\ntarget: [\n", "is no YAML"),
        ("[" * 5000, "is nested too deep"),
        ("- " * 5000, "is nested too deep"),
        ("a: 2026-99-99\n", "is no YAML"),
        ("a: " + "9" * 5000, "is no YAML"),
        ("type: static\ntarget: NK\nsparsity: 0..5\n", "is no number"),
        ("# " + "x" * 2**20, "larger than 1 MiB"),
        ("model: x\n", "lists no method"),
        ("type: static\ntarget: K\n", "is no family; known are static_m"),
        ("type: static\ntarget: NK\nschedule: linear\n", "an entry has 'schedule'"),
        ("type: static\ntarget: NK\nsparsity: 50\n", r"fraction removed in \[0, 1\)"),
        ("type: static\ntarget: NK\nestimated_sparsity: -0.5\n", r"fraction removed in \[0, 1\)"),
        ("- {type: static, target: NK, sparsity: 0.5}\n- {type: static_nk, target: ffn, sparsity: 0.5}\n", "twice"),
    ],
)
def test_what_is_no_configuration(written, text, match):
    with pytest.raises(FileFormatError, match=match):
        read_study(written(text))


def test_a_sparsity_that_nobody_gives(written):
    with pytest.raises(MissingValueError, match="none is given"):
        read_study(written("type: static\ntarget: NK\nestimated_sparsity: -1\n"))
    with pytest.raises(FileFormatError, match="cannot read"):
        read_study("nowhere.yaml")


TABLE = """
[12:00:01] warm-up done
| family           | stage | ratio | bs | ctx | dense (ms) | pruned (ms) |
|------------------|-------|-------|----|-----|------------|-------------|
| static_m         | TTFT  | 50%   | 1  | 1k  | 20.0       | 10.4        |
| static_k_lowrank | TPOT  | 0.5   | 8  | 1024| 12.0 ms    | 8.0 ms      |

total 3.2 s
"""


def test_printed_tables_of_three_kinds(written):
    bars = read_results(written(TABLE, "log.txt"))
    assert bars.to_dict("list") == {
        "method": ["static-depth", "low-rank"],
        "phase": ["prefill", "decode"],
        "sparsity": [0.5, 0.5],
        "batch": [1.0, 8.0],
        "context": [1024.0, 1024.0],
        "measured": [20.0 / 10.4, 1.5],
    }
    spaces = "method  speedup  batch size\nFLAP  1.22x  1\nSliceGPT  1.1  16\n"
    commas = "method,speedup,batch size\nFLAP,1.22x,1\nSliceGPT,1.1,16\n"
    for text, name in ((spaces, "a.log"), (commas, "a.csv")):
        found = read_results(written(text, name))
        assert found["method"].tolist() == ["FLAP", "SliceGPT"]
        assert found["measured"].tolist() == [1.22, 1.1]


def test_results_are_rows_of_a_sweep(written):
    measured = read_results(written(TABLE, "log.txt")).assign(model="llama-3.1-8b", hardware="rtx-pro-6000")
    predicted = pis.sweep(rows=measured, stacks="ideal")
    assert predicted["method"].tolist() == measured["method"].tolist()
    assert np.all(predicted["estimated_speedup"] > 1.0)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("nothing here\n", "no table with methods"),
        ("method,speedup\nFLAP,fast\n", "'fast' is no number"),
        ("method,dense,pruned\nFLAP,1.0,0\n", "above 0"),
    ],
)
def test_what_is_no_table(written, text, match):
    with pytest.raises(FileFormatError, match=match):
        read_results(written(text, "log.txt"))
