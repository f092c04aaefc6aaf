"""Architectures: each turns a configuration and a workload into rows of a trace, in one file, from shared rows.

One of your own needs no entry here: derive a configuration from `ModelConfig` and give it a method ``rows``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pruninfersim.models.architectures.decoder import decoder_rows
from pruninfersim.models.architectures.rows import Row, Rows
from pruninfersim.workload import Workload

if TYPE_CHECKING:
    from pruninfersim.models.config import ModelConfig

__all__ = ["ARCHITECTURES", "Row", "Rows"]

#: Family name (Hugging Face ``model_type``) -> function that makes the rows. The dense decoders differ only in
#: fields of their configuration (norms per layer, q/k norms, windows), so that one function serves them all.
ARCHITECTURES: dict[str, Callable[[ModelConfig, Workload, str], list[Row]]] = dict.fromkeys(
    (
        *("llama", "mistral", "qwen2", "qwen3", "qwen3_vl", "olmo2", "phi3", "gemma2", "gemma3"),
        *("granite", "exaone", "baichuan", "mimo", "nemotron-nas"),
    ),
    decoder_rows,
)
