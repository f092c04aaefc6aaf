"""One family of errors; each message says what was wrong, what is allowed and what to try."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from cases import workload

import pruninfersim as pis
from pruninfersim import errors
from pruninfersim._util.arrays import checked, frozen, stack_ops
from pruninfersim.errors import FileFormatError, InvalidInputError, PruninfersimError, UnknownNameError, unknown_name

BUILT_IN = {
    errors.InvalidInputError: ValueError,
    errors.UnknownNameError: KeyError,
    errors.MissingValueError: LookupError,
    errors.FileFormatError: ValueError,
    errors.ConformanceError: Exception,
    errors.CannotWriteError: OSError,
}


def test_one_family():
    ours = [
        e
        for _, e in inspect.getmembers(errors, inspect.isclass)
        if issubclass(e, Exception) and not issubclass(e, Warning)
    ]
    assert set(ours) == {PruninfersimError, *BUILT_IN}
    for error, also in BUILT_IN.items():
        assert issubclass(error, PruninfersimError)
        assert issubclass(error, also)
    assert issubclass(errors.ProvenanceWarning, UserWarning)


def test_unknown_name_reads_as_a_sentence():
    error = unknown_name("method", "Static_Width", ["static-width", "low-rank"])
    assert str(error) == "unknown method 'Static_Width'. Did you mean 'static-width'? Known: low-rank, static-width."
    assert "Did you mean" not in str(unknown_name("method", "zzz", ["static-width"]))


@pytest.mark.parametrize("odd", [None, 3, ("a",)])
def test_unknown_name_of_any_type(odd):
    assert repr(odd) in str(unknown_name("stack", odd, ["ideal"]))


@pytest.mark.parametrize(
    ("values", "limits", "message"),
    [
        (-0.1, {"minimum": 0, "below": 1}, r"x must be in \[0, 1\); got -0.1"),
        ([0.5, 1.0], {"minimum": 0, "below": 1}, r"got 1$"),
        (np.nan, {"minimum": 0}, "at least 0; got nan"),
        (1.5, {"minimum": 1, "whole": True}, "a whole number, at least 1; got 1.5"),
        ("many", {}, "a number or an array of numbers; got 'many'"),
        ({"a": 1}, {}, "a number or an array"),
        ([[1, 2], [3]], {}, "a number or an array"),
    ],
)
def test_checked(values, limits, message):
    with pytest.raises(InvalidInputError, match=message):
        checked("x", values, **limits)


def test_checked_keeps_shape_and_copies_nothing_needlessly():
    assert checked("x", [[1, 2]], minimum=1).shape == (1, 2)
    assert checked("x", 3).shape == ()


def test_frozen_is_a_copy():
    mine = np.ones(3)
    copy = frozen(mine)
    mine[0] = 5
    assert copy.tolist() == [1, 1, 1]


def test_stack_ops_broadcasts_to_the_op_axis():
    assert stack_ops([1.0, np.ones((2, 1)), np.ones(3)]).shape == (2, 3, 3)


# --- what users get wrong ---------------------------------------------------------------------------------------------


def test_unknown_gpu():
    with pytest.raises(UnknownNameError, match=r"unknown GPU 'h100_smx'. Did you mean 'h100-sxm'"):
        pis.estimate(pis.trace("llama-3.1-8b", workload("decode")), hardware="h100_smx", stack="ideal")


def test_unknown_method():
    with pytest.raises(
        UnknownNameError, match=r"Did you mean 'sparse-attention'\? Known: activation-sparsity, dynamic-depth"
    ):
        pis.pruning.get("sparse-atention", 0.5)


@pytest.mark.parametrize("text", ['{"model_type": "llama", "hidden_size": 40', "", "[]", "null", "\x00\x01"])
def test_broken_config_files_name_the_file(tmp_path, text):
    file = tmp_path / "config.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(FileFormatError, match=r"config\.json"):
        pis.ModelConfig.from_hf(file)


def test_a_config_that_is_not_utf8_names_the_file(tmp_path):
    file = tmp_path / "config.json"
    file.write_bytes(b"\xff\xfe{")
    with pytest.raises(FileFormatError, match=r"config\.json"):
        pis.ModelConfig.from_hf(file)


@pytest.mark.parametrize("field", ["hidden_size", "num_hidden_layers", "vocab_size", "num_attention_heads"])
@pytest.mark.parametrize("bad", [0, -1, 2.5, "big", None])
def test_impossible_sizes_of_a_model(field, bad):
    config = {
        "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "vocab_size": 100,
    }  # fmt: skip
    with pytest.raises(PruninfersimError):
        pis.ModelConfig.from_hf(config | {field: bad})


def test_messages_are_one_line():
    calls = [
        lambda: pis.models.get("nope"),
        lambda: pis.hardware.get("nope"),
        lambda: pis.pruning.get("nope", 0.5),
        lambda: pis.pruning.get("low-rank", 2),
        lambda: pis.Workload.decode(batch=-1),
        lambda: pis.models.get("llama-3.1-8b").clone("x", num_layers=0, hidden_size=-3),
        lambda: pis.hardware.get("h100-sxm").clone("x", memory_bandwidth=-1),
    ]
    for call in calls:
        with pytest.raises(PruninfersimError) as caught:
            call()
        assert "\n" not in str(caught.value)
