"""What other libraries and other functions call a keyword, and what it is called here."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable
from typing import Any

from pruninfersim.errors import InvalidInputError, shown

#: Word of another library, or of another function -> keyword here.
INSTEAD = {
    "models": "model",
    "config": "model",
    "gpu": "hardware",
    "gpus": "hardware",
    "device": "hardware",
    "methods": "method",
    "pruning": "method",
    "ratio": "sparsity",
    "pruning_ratio": "sparsity",
    "sparsities": "sparsity",
    "phases": "phase",
    "mode": "phase",
    "batch_size": "batch",
    "batches": "batch",
    "bs": "batch",
    "tokens": "context",
    "seq_len": "context",
    "sequence_length": "context",
    "prompt": "context",
    "contexts": "context",
    "input_len": "context",
    "stacks": "stack",
    "backend": "stack",
    "engine": "stack",
    "precision": "dtype",
    "workload": "phase, batch and context",
    "workloads": "phase, batch and context",
}
#: How to split a model over GPUs where a function has no word for it.
SPLIT = (
    "a model on several GPUs is a stack: lambda gpu: "
    "pruninfersim.stacks.parallel(pruninfersim.stacks.get('vendor', gpu), tp=4)"
)
#: Word -> where what it means is said.
ELSEWHERE = {
    "host": "the host belongs to the engine: stack=pruninfersim.stacks.engine('vllm', host='slow')",
    "kv_dtype": "a narrower KV cache is a method: method=pruninfersim.pruning.Quantized(kv='fp8')",
    **dict.fromkeys(("tp", "ep"), SPLIT),
}


def refuse(function: str | Callable[..., Any], given: Iterable[str], known: Iterable[str] | None = None) -> None:
    """Raise one clear line for the first keyword that a function does not have: it names the one that it has.

    Parameters
    ----------
    function : str or callable
        Who was asked; a function says itself which keywords it has.
    given : iterable of str
    known : iterable of str, optional
        Keywords that there are; needed with a name.

    Raises
    ------
    InvalidInputError
        If there is any.

    >>> refuse("speedup", ["tokens"], ["model", "context"])
    Traceback (most recent call last):
    pruninfersim.errors.InvalidInputError: speedup has no keyword 'tokens'; it is called context here
    """
    for name in given:
        if not isinstance(function, str):
            kept = [p for p in inspect.signature(function).parameters.values() if p.kind is not p.VAR_KEYWORD]
            function, known = function.__name__, [p.name for p in kept]
        words = list(known or ())
        if name in ELSEWHERE:
            raise InvalidInputError(f"{function} has no keyword {name!r}: {ELSEWHERE[name]}")
        meant = INSTEAD.get(name, name.removesuffix("s"))
        if meant.partition(",")[0] not in words or meant == name:
            near = difflib.get_close_matches(name, words, n=1, cutoff=0.6)
            if not near:
                raise InvalidInputError(f"{function} has no keyword {shown(name)}. It has: {', '.join(words)}")
            meant = near[0]
        raise InvalidInputError(f"{function} has no keyword {shown(name)}; it is called {meant} here")
