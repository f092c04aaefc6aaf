"""Options that several commands share: what is asked, and how the answer is written."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

import pruninfersim as pis
from pruninfersim.pruning import Method


class Format(StrEnum):
    """Output formats."""

    table = "table"
    json = "json"
    csv = "csv"


Gpu = Annotated[str, typer.Option("--gpu", "--hardware", help="GPU name; see `pruninfersim hardware`.")]
Sparsity = Annotated[float, typer.Option(help="Fraction removed, in [0, 1).")]
Output = Annotated[Format, typer.Option("--format", help="table, json or csv.")]


@dataclass(frozen=True)
class Question:
    """What every question needs: a model on a GPU, in a software stack and a precision, and a workload."""

    model: Annotated[str, typer.Option(help="Name of a shipped model; see `pruninfersim models`.")] = "llama-3.1-8b"
    config: Annotated[Path | None, typer.Option(help="Hugging Face config.json to use instead of --model.")] = None
    gpu: Gpu = "h100-sxm"
    phase: Annotated[str, typer.Option(help="prefill or decode.")] = "prefill"
    batch: Annotated[int, typer.Option(help="Sequences in the batch.")] = 1
    context: Annotated[int, typer.Option(help="Prompt tokens (prefill), or keys attended to (decode).")] = 2048
    stack: Annotated[str, typer.Option(help="Software that runs the ops: vendor, paper or ideal.")] = pis.stacks.DEFAULT
    dtype: Annotated[str | None, typer.Option(help="Precision of the linear layers; default: the model's own.")] = None

    tp: Annotated[int, typer.Option(help="GPUs over which the model is split (tensor parallelism).")] = 1
    ep: Annotated[int, typer.Option(help="Groups of these GPUs that share the experts; a divisor of --tp.")] = 1

    @functools.cached_property
    def setup(self) -> pis.Setup:
        """The model on the GPU."""
        model = self.model if self.config is None else pis.ModelConfig.from_hf(self.config)
        return pis.Setup(model, self.gpu, self.stack, self.dtype, self.tp, self.ep)

    def workload(self, phase: str | None = None) -> pis.Workload:
        """Return the workload, or that of another phase."""
        return self.setup.workload(phase or self.phase, self.batch, self.context)

    def __str__(self) -> str:
        where = f"{self.setup.model.name} on {self.setup.hardware.name}, {self.phase}, batch {self.batch}"
        return f"{where}, context {self.context}, stack {self.setup.stack.stack}"


def asks(**defaults: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that gives a command the options of a `Question`, which it takes as its first argument.

    Parameters
    ----------
    **defaults
        Values of options that are others than those of `Question`.

    >>> @asks(phase="decode")
    ... def show(question: Question, twice: bool = False) -> None:
    ...     print(question.phase, twice)
    >>> list(inspect.signature(show).parameters)[:3]
    ['twice', 'model', 'config']
    """
    hints = get_type_hints(Question, include_extras=True)
    keyword = inspect.Parameter.KEYWORD_ONLY
    shared = [
        inspect.Parameter(f.name, keyword, default=defaults.get(f.name, f.default), annotation=hints[f.name])
        for f in fields(Question)
    ]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
        parameters = [*(parameter.replace(kind=keyword) for parameter in own), *shared]

        def run(**given: Any) -> None:
            asked = {f.name: given.pop(f.name) for f in fields(Question)}
            command(Question(**asked), **given)

        run.__name__, run.__doc__ = command.__name__, command.__doc__
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return decorate


def methods(text: str) -> list[Method]:
    """Return the methods in an option: names separated by commas, "a+b" for one after the other, or all.

    >>> methods("low-rank,static-depth+semi-structured")
    ['low-rank', ('static-depth', 'semi-structured')]
    """
    if text == "all":
        return list(pis.pruning.names())
    parts = [[name.strip() for name in part.split("+") if name.strip()] for part in text.split(",") if part.strip()]
    return [names[0] if len(names) == 1 else tuple(names) for names in parts]
