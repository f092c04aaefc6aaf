"""What serving software does beside steps: which memory it takes for itself, and what a request waits for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Serving:
    """Facts of an engine about memory and requests; the defaults are those of kernels only.

    Attributes
    ----------
    memory_share : float
        Share of the memory of the GPU that the engine takes [1].
    reserve : float
        Memory of the runtime (context, graphs, workspaces) [B].
    activations : bool
        Whether the engine keeps room for the largest step that it allows.
    max_batched_tokens, max_sequences : float
        Tokens and sequences of that step.
    front, front_token : float
        What a request spends in the front end before its prefill: per request, and per prompt token [s].
    """

    memory_share: float = 1.0
    reserve: float = 0.0
    activations: bool = False
    max_batched_tokens: float = 2048.0
    max_sequences: float = 256.0
    front: float = 0.0
    front_token: float = 0.0
