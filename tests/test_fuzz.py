"""A sample of `validation.fuzz`, which tries many more inputs."""

from __future__ import annotations

import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT))
pytest.importorskip("pyarrow", reason="needs pyarrow, the optional extra 'parquet'")
from validation.fuzz import __main__ as fuzz
from validation.fuzz import judge


@pytest.mark.parametrize(("door", "count"), [("calls", 250), ("files", 150), ("commands", 15)])
def test_an_answer_or_one_line(door, count, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    verdicts, faults = fuzz.tried(door, count, 2, tmp_path)
    assert not faults
    assert verdicts.total() == count
    assert min(verdicts["answer"], verdicts["refused"]) > 0, "a fuzzer that is only refused, or never, tries nothing"


def test_the_judge_sees_faults():
    """What is counted as a fault is one, and what is none is not."""
    from pruninfersim.errors import InvalidInputError

    def raising(error: Exception):
        def call() -> None:
            raise error

        return judge.judged(call).kind

    assert raising(InvalidInputError("one line")) == "refused"
    assert raising(AttributeError("x")) == "foreign error"
    assert raising(MemoryError()) == "memory"
    assert judge.judged(lambda: [1.0, float("nan")]).kind == "wrong number"
    assert judge.judged(lambda: [1.0]).kind == "answer"
    assert judge.of_message("a\nb").kind == "not one line"
    assert judge.of_message("a" * 2000).kind == "long message"
