"""The question as a reader can take it away: Python, and a command."""

from __future__ import annotations

import json
import shlex
from typing import Any

from pruninfersim.app import uploads
from pruninfersim.app.state import State
from pruninfersim.pruning import EVERY, spelling


def python(state: State) -> str:
    """Return the question as a script that prints the numbers of the page.

    >>> print(python(State(gpus=("l40s",), methods=("static-width@0.25/0.5",))))
    import pruninfersim as pis
    <BLANKLINE>
    model = "llama-3.1-8b"
    results = pis.speedup(
        model=model,
        hardware=["l40s"],
        methods=[
            pis.pruning.StaticWidth(pis.pruning.PerBlock(attention=0.25, mlp=0.5)),
        ],
        phase="prefill",
        batch=1,
        context=1024,
        stack="vendor",
        dtype=None,
    )
    print(results)
    """
    shown = f'"{state.model}"'
    if state.config:
        text = uploads.unpacked(state.config, "the model")
        shown = f"pis.ModelConfig.from_hf({json.loads(text)!r}, name={uploads.model_of(text).name!r})"
    methods = "".join(f"\n        {_code(method)}," for method in state.methods)
    lines = {
        "model": "model",
        "hardware": _quoted(list(state.gpus)),
        "methods": f"[{methods}\n    ]",
        "phase": _quoted(state.phase),
        "batch": state.batch,
        "context": state.context,
        "stack": _quoted(state.stack),
        "dtype": _quoted(state.dtype) if state.dtype else None,
    }
    arguments = "\n".join(f"    {name}={value}," for name, value in lines.items())
    return f"import pruninfersim as pis\n\nmodel = {shown}\nresults = pis.speedup(\n{arguments}\n)\nprint(results)"


def _quoted(value: Any) -> str:
    return json.dumps(value)


def _code(method: str) -> str:
    parts = [
        f"pis.pruning.{EVERY[part.name].__name__}("
        + (f"{part.sparsity:.12g}" if part.mlp is None else
           f"pis.pruning.PerBlock(attention={part.sparsity:.12g}, mlp={part.mlp:.12g})")
        + ")"
        for part in spelling.parts(method)
    ]  # fmt: skip
    return parts[0] if len(parts) == 1 else f"({', '.join(parts)})"


def command(state: State) -> str:
    """Return the question as a command of the shell; an uploaded model is a file that has to be at hand.

    >>> command(State(gpus=("l40s",), phase="decode"))
    'pruninfersim speedup --model llama-3.1-8b --gpu l40s --method static-width@0.5,semi-structured@0.5 --phase ...'
    """
    words = ["pruninfersim", "speedup"]
    words += ["--config", "config.json"] if state.config else ["--model", state.model]
    words += ["--gpu", ",".join(state.gpus), "--method", ",".join(state.methods), "--phase", state.phase]
    words += ["--batch", str(state.batch), "--context", str(state.context), "--stack", state.stack]
    words += ["--dtype", state.dtype] if state.dtype else []
    return shlex.join(words)
