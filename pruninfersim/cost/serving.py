"""What serving software does beside steps: which memory it takes for itself, and what a request waits for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pruninfersim.trace import OpTrace


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
    chunked : bool
        Whether a long prompt is cut into steps: else the largest step holds a whole one.
    max_sequences : float
        Sequences of the largest step.
    front, front_token : float
        What a request spends in the front end before its prefill: per request, and per prompt token [s].
    lower : callable, optional
        Trace -> trace: what the engine launches under a server, where that is not what its steps launch without one.
    """

    memory_share: float = 1.0
    reserve: float = 0.0
    activations: bool = False
    chunked: bool = True
    max_sequences: float = 256.0
    front: float = 0.0
    front_token: float = 0.0
    lower: Callable[[OpTrace], OpTrace] | None = None

    def batched_tokens(self, large: bool, context: float) -> float:
        """Return the tokens of the largest step on a large card or not, for sequences of `context` tokens.

        >>> Serving().batched_tokens(True, 4096.0), Serving(chunked=False).batched_tokens(False, 4096.0)
        (8192.0, 4096.0)
        """
        if not self.chunked:
            return max(2048.0, context)
        return 8192.0 if large else 2048.0
