"""Model families: each turns a configuration and a workload into rows of a trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pruninfersim.architectures.decoder import decoder_rows
from pruninfersim.models import ModelConfig
from pruninfersim.workload import Workload

#: Family name (Hugging Face ``model_type``) -> function that makes the rows. The dense decoders differ only in
#: fields of their configuration (norms per layer, q/k norms, windows), so that one function serves them all.
ARCHITECTURES: dict[str, Callable[[ModelConfig, Workload, str], list[dict[str, Any]]]] = dict.fromkeys(
    ("llama", "mistral", "qwen2", "qwen3", "olmo2", "phi3", "gemma2", "gemma3"), decoder_rows
)
