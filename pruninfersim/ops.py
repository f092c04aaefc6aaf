"""The catalogue of ops: one row per kernel key, with what every room of the house has to know about it.

A trace says how large an op is; its key says which kernel runs it. Whatever else depends on the key stands here, once.
A key that is not in the catalogue is as good: stacks price it if they have a kernel for it (the ideal one always does),
and the tables call its part "other".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: What a reader calls the parts of a pass, in the order of tables and plots.
PARTS = ("GEMM", "attention", "LM head", "overhead ops", "elementwise", "communication", "other")


@dataclass(frozen=True)
class Op:
    """What is known about the ops of a kernel key.

    Attributes
    ----------
    key : str
        Kernel key of a trace.
    part : str
        One of `PARTS`.
    group : {"gemm", "attention", "elementwise"}
        Kernels of one group share the common part of their error, where a stack knows no better.
    b : {"weights", "cache", "activations", "none"}
        What operand B is: stored with the model, stored with the sequences, made on the way, or absent.
    pattern : str
        Structured sparsity that its ops carry in the column of that name: "2:4", or "".
    stand_in : str
        A key whose ops have the same layout, for models whose traces lack this one; empty if none is needed.
    model : str
        A built-in model whose traces have such ops, where not every model's do.
    """

    key: str
    part: str = "other"
    group: Literal["gemm", "attention", "elementwise"] = "elementwise"
    b: Literal["weights", "cache", "activations", "none"] = "weights"
    pattern: str = ""
    stand_in: str = ""
    model: str = ""


CATALOGUE: dict[str, Op] = {
    op.key: op
    for op in (
        Op("gemm", "GEMM", "gemm", "weights"),
        Op("lm_head", "LM head", "gemm", "weights"),
        Op("shared_head", "LM head", "gemm", "activations"),  # its weights are counted where they are stored
        Op("shared_gemm", "GEMM", "gemm", "activations"),  # as are these: a factor that another layer has, too
        Op("gemm_2of4", "GEMM", "gemm", "weights", pattern="2:4"),
        Op("token_gemm", "GEMM", "gemm", "weights"),
        Op("gemm_unstructured", "GEMM", "gemm", "weights"),
        Op("column_gemm", "GEMM", "gemm", "weights"),
        Op("group_gemm_n", "GEMM", "gemm", "weights"),
        Op("group_gemm_k", "GEMM", "gemm", "weights"),
        Op("fine_gemm_n", "GEMM", "gemm", "weights"),
        Op("fine_gemm_k", "GEMM", "gemm", "weights"),
        Op("exit_gemm", "GEMM", "gemm", "weights"),
        Op("router", "overhead ops", "gemm", "weights"),
        Op("moe", "GEMM", "gemm", "weights", model="qwen3-30b-a3b"),
        Op("per_head_gemm", "GEMM", "gemm", "weights", model="deepseek-v2-lite"),
        Op("attention_prefill", "attention", "attention", "cache"),
        Op("attention_decode", "attention", "attention", "cache"),
        Op("attention_prefill_kv8", "attention", "attention", "cache", stand_in="attention_prefill"),
        Op("attention_decode_kv8", "attention", "attention", "cache", stand_in="attention_decode"),
        Op("mla_prefill", "attention", "attention", "cache", model="deepseek-v2-lite"),
        Op("mla_decode", "attention", "attention", "cache", model="deepseek-v2-lite"),
        Op("linear_attention", "attention", "attention", "cache", stand_in="attention_prefill"),
        Op("token_attention_prefill", "attention", "attention", "cache"),
        Op("token_attention_decode", "attention", "attention", "cache"),
        Op("exit_attention", "attention", "attention", "cache"),
        Op("block_sparse_prefill", "attention", "attention", "cache"),
        Op("block_sparse_decode", "attention", "attention", "cache"),
        Op("block_score", "overhead ops", "gemm", "activations"),
        Op("block_index", "overhead ops", "elementwise", "none"),
        Op("norm", "elementwise", "elementwise", "none"),
        Op("qk_norm", "elementwise", "elementwise", "none", stand_in="rope"),
        Op("rope", "elementwise", "elementwise", "none"),
        Op("kv_append", "elementwise", "elementwise", "none"),
        Op("act", "elementwise", "elementwise", "none"),
        Op("embedding", "elementwise", "elementwise", "none"),
        Op("transpose", "overhead ops", "elementwise", "none"),
        Op("quantise_absmax", "overhead ops", "elementwise", "none", stand_in="norm"),
        Op("quantise_cast", "overhead ops", "elementwise", "none", stand_in="norm"),
        Op("quantise_token", "overhead ops", "elementwise", "none", stand_in="norm"),
        Op("mask_sort", "overhead ops", "elementwise", "none"),
        Op("token_copy", "overhead ops", "elementwise", "none", stand_in="norm"),
        Op("all_reduce", "communication", "elementwise", "none"),
        Op("elementwise", "elementwise", "elementwise", "none", stand_in="norm"),
    )
}


def get(key: str) -> Op:
    """Return what is known about a kernel key; a stranger's B is what the columns of its ops say.

    >>> get("gemm_2of4").part, get("my_kernel").part
    ('GEMM', 'other')
    """
    return CATALOGUE.get(key) or Op(key)
