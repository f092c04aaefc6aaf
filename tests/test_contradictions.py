"""Words that contradict the answer, or each other, are refused: nothing is left out of it in silence."""

from __future__ import annotations

import inspect

import pandas as pd
import pytest

import pruninfersim as pis
from pruninfersim._util.words import ELSEWHERE, INSTEAD
from pruninfersim.errors import InvalidInputError

HERE = {"model": "llama-3.1-8b", "hardware": "h100-sxm"}
QUESTIONS = [
    "align_widths", "attention_latency", "break_even", "capacity", "compare", "compare_hardware", "estimate", "explain",
    "gemm_latency", "latency_table", "max_speedup", "recommend", "request", "required_efficiency", "speedup",
    "suggest_width", "sweep", "where_to_prune", "who_wins",
]  # fmt: skip


@pytest.mark.parametrize("name", QUESTIONS)
@pytest.mark.parametrize("word", sorted({*INSTEAD, *ELSEWHERE, "workload", "logits", "axis", "new_tokens"}))
def test_a_word_that_a_question_lacks_is_answered_with_one_that_it_has(name, word):
    """docs/questions.md: "A word that a question does not have is answered with the one that it has."."""
    function = getattr(pis, name)
    has = inspect.signature(function).parameters
    if word in has or ("question" in has and word in ("tp", "ep", "workload", "logits")):
        pytest.skip("it has it")
    needed = {
        p.name: 1 for p in has.values() if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    }
    if name == "required_efficiency":
        needed["target"] = 1.3
    with pytest.raises(InvalidInputError) as raised:
        function(**needed, **{word: 1})
    said = str(raised.value)
    assert f"has no keyword {word!r}" in said
    _, is_called, meant = said.partition("it is called ")
    if is_called:
        called = meant.removesuffix(" here").partition(",")[0]
        assert called != word
        assert called in has or "question" in has


@pytest.mark.parametrize("ask", [pis.capacity, pis.request, pis.estimate])
def test_a_sparsity_without_a_method_is_refused(ask):
    with pytest.raises(InvalidInputError, match="a sparsity needs a method"):
        ask(**HERE, sparsity=0.5)


@pytest.mark.parametrize("command", ["capacity", "request"])
def test_the_command_line_refuses_it_too(run, command):
    code, _, said = run(command, "--sparsity", "0.5")
    assert code == 2
    assert "--sparsity needs a --method" in said
    assert run(command, "--method", "static-depth")[0] == 0


@pytest.mark.parametrize("command", ["capacity", "request", "speedup", "memory", "trace"])
def test_a_model_by_name_beside_a_file_is_refused(run, command, tmp_path):
    file = tmp_path / "config.json"
    file.write_text("{}")
    code, _, said = run(command, "--model", "llama-3.1-8b", "--config", str(file))
    assert code == 2
    assert "not both" in said


def test_a_comparison_of_checkpoints_has_no_method(run):
    code, _, said = run("speedup", "--against", "llama-3.1-8b", "--model", "llama-3.2-1b", "--method", "low-rank")
    assert code == 2
    assert "leave --method and --sparsity out" in said


@pytest.mark.parametrize("share", [90, 1.0001])
def test_a_share_of_memory_is_no_percentage(share):
    with pytest.raises(InvalidInputError, match=r"memory_share is a fraction, such as 0\.9"):
        pis.capacity(**HERE, memory_share=share)


@pytest.mark.parametrize("word", ["memory", "weight_bytes"])
def test_bytes_are_no_gigabytes(word):
    with pytest.raises(InvalidInputError, match="is in bytes: 80 GB is 80e9; got 80"):
        pis.capacity(**HERE, **{word: 80})


def test_the_bytes_of_a_key_are_counted_once():
    """The same cache, said by the method, by the number, and by both: one byte in vLLM's fp8."""
    by_method = pis.capacity(**HERE, stack="vllm", method="quantized:kv=fp8")
    by_number = pis.capacity(**HERE, stack="vllm", kv_bytes_per_element=1)
    both = pis.capacity(**HERE, stack="vllm", method="quantized:kv=fp8", kv_bytes_per_element=1)
    assert by_method.kv_bytes_per_token == by_number.kv_bytes_per_token == both.kv_bytes_per_token
    assert both.kv_bytes_per_token == 32 * 2 * 8 * 128  # layers, keys and values, heads, head size


def test_a_search_from_a_large_to_a_small_batch_is_refused():
    with pytest.raises(InvalidInputError, match="the lower one first"):
        pis.break_even("batch", **HERE, method="low-rank", between=(256, 1))


def test_a_workload_and_its_parts_are_refused():
    with pytest.raises(InvalidInputError, match="workload says batch already"):
        pis.speedup(**HERE, method="low-rank", sparsity=0.5, workload=pis.Workload.decode(16), batch=[1, 4])


@pytest.mark.parametrize("words", [{"phase": "prefill"}, {"batch": 1}, {"context": [1, 2]}, {"logits": "all"}])
def test_a_trace_has_one_workload(words):
    with pytest.raises(InvalidInputError, match=f"the workload says {next(iter(words))} already"):
        pis.trace("llama-3.1-8b", pis.Workload.decode(), **words)


@pytest.mark.parametrize("dtype", ["int4_wo", "int8_wo", "mxfp4", "fp8_block"])
def test_a_pattern_without_a_kernel_has_no_time(dtype):
    """What a method refuses (cuSPARSELt: bf16, fp16, fp8, int8) is no question about a single GEMM either."""
    with pytest.raises(InvalidInputError, match=f"no kernel that was timed runs 2:4 weights in {dtype}") as single:
        pis.gemm_latency(16, 4096, 4096, hardware="h100-sxm", kernel="2:4", dtype=dtype)
    with pytest.raises(InvalidInputError) as whole:
        pis.speedup(**HERE, method="semi-structured", sparsity=0.5, dtype=dtype)
    assert str(single.value) == str(whole.value)


def test_attention_that_cannot_be():
    shape = {"hardware": "h100-sxm", "heads": 32, "kv_heads": 8}
    with pytest.raises(InvalidInputError, match="context counts the keys"):  # a token attends to itself at least
        pis.attention_latency(phase="prefill", query_len=[1024, 4096], context=2048, **shape)
    with pytest.raises(InvalidInputError, match="kv_heads must divide heads"):
        pis.attention_latency(phase="decode", context=2048, **shape | {"kv_heads": 5})


def test_sides_that_do_different_work_are_told():
    step = pis.trace("llama-3.1-8b", pis.Workload.decode())
    told = pis.compare(step, pis.trace("llama-3.1-8b", pis.Workload.decode(batch=16)), hardware="h100-sxm").notes
    assert (
        told[0] == "the sides do different work: decode, batch 1, context 1024 against decode, batch 16, context 1024"
    )
    pruned = step.prune(pis.pruning.StaticDepth(0.5))
    assert not [n for n in pis.compare(step, pruned, hardware="h100-sxm").notes if "work" in n]


def test_a_note_on_memory_says_where():
    """64 x 8192 x 128 KiB of keys and values beside 16.1 GB of weights are 84.8 GB; every other point fits 80 GB."""
    batch, context = [[1], [8], [64]], [1024, 8192]
    notes = pis.speedup(**HERE, method="static-depth", sparsity=0.5, phase="decode", batch=batch, context=context).notes
    assert [note.partition(":")[0] for note in notes] == ["the model does not fit on one h100-sxm at 1 of 6 points"]


ROWS = pd.DataFrame({"model": ["llama-3.1-8b"], "hardware": "rtx-pro-6000", "method": "static-width", "sparsity": 0.5,
                     "phase": "decode", "batch": 1, "context": 1024})  # fmt: skip


@pytest.mark.parametrize("stack", ["paper", "ideal"])
def test_what_is_said_once_for_all_rows_is_heard(stack):
    said = pis.sweep(rows=ROWS, stacks=stack)
    assert said["stack"].tolist() == [stack]
    one = pis.speedup(model="llama-3.1-8b", hardware="rtx-pro-6000", method="static-width", sparsity=0.5,
                      phase="decode", stack=stack)  # fmt: skip
    assert said["estimated_speedup"].tolist() == pytest.approx([one.estimated], rel=1e-12)
    pd.testing.assert_frame_equal(pis.sweep(rows=ROWS.assign(stack=stack)), said)
    narrow = pis.sweep(rows=ROWS.assign(dtype="fp8"), stack=stack)
    pd.testing.assert_frame_equal(pis.sweep(rows=ROWS, stack=stack, dtype="fp8"), narrow)
    assert narrow["dense_seconds"][0] < said["dense_seconds"][0]  # half of the bytes


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"hardware": "l40s"}, "leave hardware out"),
        ({"sparsity": 0.3}, "leave sparsity out"),
        ({"phase": "prefill"}, "leave phase out"),
        ({"methods": ["low-rank"]}, "leave methods out"),
        ({"stacks": ["ideal", "vendor"]}, "takes one stack"),
    ],
)
def test_rows_and_a_grid_are_refused(words, said):
    with pytest.raises(InvalidInputError, match=said):
        pis.sweep(rows=ROWS, **words)


@pytest.mark.parametrize("column", ["tp", "ep", "logits", "kv_dtype", "host"])
def test_a_column_that_nobody_reads_is_refused_where_it_means_something(column):
    with pytest.raises(InvalidInputError, match=f"rows have a column {column}, which a row cannot say"):
        pis.sweep(rows=ROWS.assign(**{column: 4}))
    assert len(pis.sweep(rows=ROWS.assign(measured=1.7))) == 1  # the reader's own


def test_a_column_and_a_keyword_are_refused():
    with pytest.raises(InvalidInputError, match="rows have a column stack"):
        pis.sweep(rows=ROWS.assign(stack="paper"), stack="ideal")


@pytest.mark.parametrize("tp", [3, 64])
def test_ranks_that_share_a_head_are_told(tp):
    """vLLM: "Total number of attention heads (32) must be divisible by tensor parallel size (3)."."""
    notes = pis.estimate(**HERE, phase="decode", tp=tp).notes
    assert f"{tp} GPUs do not share 32 query heads evenly: engines refuse such a split" in notes
    assert not [note for note in pis.estimate(**HERE, phase="decode", tp=8).notes if "evenly" in note]


def test_a_setup_prices_its_own_model_and_precision():
    here, step = pis.Setup("llama-3.1-8b", "h100-sxm", dtype="fp8"), pis.Workload.decode()
    with pytest.raises(InvalidInputError, match=r"the trace is of qwen3-8b, and the setup of llama-3\.1-8b"):
        here.estimate(pis.trace("qwen3-8b", step))
    plain = pis.trace("llama-3.1-8b", step)
    for ask in (here.estimate, lambda trace: here.compare(trace, trace)):
        with pytest.raises(InvalidInputError, match="the trace is in bf16, and the setup in fp8"):
            ask(plain)
    assert here.estimate(here.trace(step)).latency < pis.Setup("llama-3.1-8b", "h100-sxm").estimate(plain).latency


def test_two_methods_for_each_phase_are_refused():
    with pytest.raises(InvalidInputError, match="leave method out"):
        pis.request(
            **HERE, method="low-rank", prefill_method="static-depth", decode_method="static-width", sparsity=0.5
        )


def test_one_method_by_name_is_a_list_of_one():
    ask = HERE | {"stack": "ideal", "phase": "decode"}
    assert pis.recommend(**ask, target={"speedup": 1.2}, methods="static-depth").best.method == "static-depth"
    with pytest.raises(InvalidInputError, match="two or more different methods; got static-depth"):
        pis.who_wins("static-depth", **ask)
    pages = [pis.report.html_report(**ask, methods=methods) for methods in ("static-depth", ["static-depth"])]
    assert pages[0] == pages[1]


def test_a_kernel_runs_on_one_gpu():
    with pytest.raises(InvalidInputError, match="a kernel takes one hardware, not a list"):
        pis.gemm_latency(16, 4096, 4096, hardware=["h100-sxm", "l40s"])


@pytest.mark.parametrize("method", ["dynamic-depth", "sparse-attention"])
def test_a_method_that_an_architecture_has_no_kernel_for_blames_no_other_method(method):
    with pytest.raises(InvalidInputError, match="deepseek-v3 has mla_prefill: the method does not go with this arch"):
        pis.speedup(**HERE | {"model": "deepseek-v3"}, method=method, sparsity=0.5)


def test_memory_takes_the_word_of_every_question():
    step = {"batch": 16, "context": 4096}
    assert pis.memory(model="llama-3.1-8b", **step) == pis.memory("llama-3.1-8b", **step)
    with pytest.raises(InvalidInputError, match="leave model out"):
        pis.memory(pis.trace("llama-3.1-8b", pis.Workload.decode()), model="qwen3-8b")
