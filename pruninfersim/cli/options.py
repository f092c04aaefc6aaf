"""Options that several commands share: what is asked, in lists wherever there is more than one answer."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from pruninfersim._util.defaults import CONTEXT, PHASES
from pruninfersim.cli import values
from pruninfersim.errors import InvalidInputError

if TYPE_CHECKING:
    import pruninfersim as pis
    from pruninfersim.stacks import Stack


class Format(StrEnum):
    """Output formats."""

    table = "table"
    json = "json"
    csv = "csv"


def _names(room: str) -> Callable[[str], list[str]]:
    """Return a completer with the names of a room of the library."""

    def complete(incomplete: str) -> list[str]:
        import pruninfersim as pis

        head, comma, last = incomplete.rpartition(",")
        return [f"{head}{comma}{name}" for name in getattr(pis, room).names() if name.startswith(last)]

    return complete


Gpus = Annotated[
    list[str],
    typer.Option(
        "--gpu", "--hardware", autocompletion=_names("hardware"), help="List of GPUs; see `pruninfersim hardware`."
    ),
]
Sparsities = Annotated[
    list[str],
    typer.Option("--sparsity", help="List of fractions removed: 0.5, 50%, or a CSV or JSON file of ratios per layer."),
]
Methods = Annotated[
    list[str],
    typer.Option(
        "--method",
        autocompletion=_names("pruning"),
        help="List of pruning methods, a+b for one after the other, quantized:int4 for a format, or all; see "
        "`pruninfersim methods`.",
    ),
]
Hosts = Annotated[list[str], typer.Option("--host", help="List of hosts (CPUs) of an engine: fast, typical, slow.")]
Output = Annotated[Format, typer.Option("--format", help="table, json or csv.")]


#: Model where none is given.
MODEL = "llama-3.1-8b"


@dataclass(frozen=True)
class Case:
    """One model on one GPU, in one stack and precision, with one workload."""

    setup: pis.Setup
    phase: str
    batch: int
    context: int

    @functools.cached_property
    def workload(self) -> pis.Workload:
        """The workload."""
        return self.setup.workload(self.phase, self.batch, self.context)

    @property
    def columns(self) -> dict[str, Any]:
        """What every row about this case says."""
        return {
            "model": self.setup.model.name,
            "gpu": self.setup.hardware.name,
            "stack": self.setup.stack.stack,
            "phase": self.phase,
            "batch": self.batch,
            "context": self.context,
            "dtype": self.setup.dtype,
        }

    def label(self, among: list[Case], *more: str) -> str:
        """Return what tells this case from others, and more, for a note."""
        rows = [case.columns for case in among]
        own = self.columns
        return " ".join([*more, *(str(own[key]) for key in own if len({str(row[key]) for row in rows}) > 1)])


@dataclass(frozen=True)
class Question:
    """What every question needs: models on GPUs, in software stacks and precisions, and workloads."""

    model: Annotated[
        list[str],
        typer.Option(
            autocompletion=_names("models"), help=f"List of models; see `pruninfersim models`; default: {MODEL}."
        ),
    ] = field(default_factory=list)
    config: Annotated[
        list[Path], typer.Option(help="Hugging Face config.json to use instead of --model; may be repeated.")
    ] = field(default_factory=list)
    gpu: Gpus = field(default_factory=lambda: ["h100-sxm"])
    phase: Annotated[list[str], typer.Option(help="prefill, decode or both.")] = field(
        default_factory=lambda: ["prefill"]
    )
    batch: Annotated[list[str], typer.Option(help="List of sequences in the batch.")] = field(
        default_factory=lambda: ["1"]
    )
    context: Annotated[
        list[str], typer.Option(help="List of prompt tokens (prefill), or keys attended to (decode): 2048, 8k.")
    ] = field(default_factory=lambda: [str(CONTEXT)])
    stack: Annotated[
        list[str],
        typer.Option(autocompletion=_names("stacks"), help="List of software that runs the ops; see `stacks`."),
    ] = field(default_factory=lambda: ["vendor"])
    host: Hosts = field(default_factory=list)
    calibration: Annotated[
        list[Path], typer.Option(help="File of `pruninfersim calibrate` to use in the stack; may be repeated.")
    ] = field(default_factory=list)
    dtype: Annotated[
        list[str], typer.Option(help="List of precisions of the linear layers; default: the model's own.")
    ] = field(default_factory=list)

    tp: Annotated[int, typer.Option(help="GPUs over which the model is split (tensor parallelism).")] = field(
        default_factory=lambda: 1
    )
    ep: Annotated[int, typer.Option(help="Groups of these GPUs that share the experts; a divisor of --tp.")] = field(
        default_factory=lambda: 1
    )

    @functools.cached_property
    def setups(self) -> list[pis.Setup]:
        """Every model on every GPU, in every stack and precision."""
        import pruninfersim as pis

        one_source(self.model, self.config)
        models = [pis.ModelConfig.from_hf(file) for file in self.config] or [
            pis.models.get(name) for name in values.read("--model", self.model or [MODEL], str)
        ]
        gpus = [pis.hardware.get(name) for name in gpu_names(self.gpu)]
        names = values.read("--stack", self.stack, _stack)
        hosts: list[str | None] = [*values.read("--host", self.host, str)] if self.host else [None]
        stacks = [on_host(name, host) for name in names for host in hosts]
        dtypes: list[Any] = [*values.several(self.dtype)] or [None]
        build = calibrated(self.calibration, gpus)
        return list(
            {
                (model.name, gpu.name, stack, dtype or model.dtype): pis.Setup(
                    model, gpu, build(stack), dtype, self.tp, self.ep
                )
                for model in models
                for gpu in gpus
                for stack in stacks
                for dtype in dtypes
            }.values()
        )

    @property
    def phases(self) -> list[str]:
        """The phases asked for."""
        asked = values.read("--phase", self.phase, str)
        return list(dict.fromkeys(p for phase in asked for p in (PHASES if phase == "both" else (phase,))))

    @functools.cached_property
    def cases(self) -> list[Case]:
        """Every setup with every workload."""
        return list(self._cases())

    def _cases(self) -> Iterator[Case]:
        batches = values.read("--batch", self.batch, values.count)
        contexts = values.read("--context", self.context, values.count)
        for setup in self.setups:
            for phase in self.phases:
                for batch in batches:
                    for context in contexts:
                        case = Case(setup, phase, batch, context)
                        _ = case.workload  # what cannot be is said before any work
                        yield case

    def one(self, command: str) -> pis.Setup:
        """Return the only setup, for a command that takes no lists of models, GPUs, stacks and precisions."""
        if len(self.setups) > 1:
            raise InvalidInputError(f"{command} is about one model on one GPU; give one of each")
        return self.setups[0]


def one_source(model: object, config: object) -> None:
    """Refuse a model by name beside a file that is another one.

    Raises
    ------
    InvalidInputError
        If both are given.
    """
    if model and config:
        raise InvalidInputError("give --model or --config, not both: the config.json is the model")


def _stack(name: str) -> str:
    """Return the name of a stack; a file is something else."""
    if name.endswith(".toml"):
        raise ValueError(f"{name} is a file; give a calibration with --calibration {name}")
    return name


def on_host(stack: str, host: str | None) -> str | Stack:
    """Return a stack, on a host if one is named: an engine alone has one.

    Raises
    ------
    InvalidInputError
        If the stack has no host.

    >>> on_host("vllm", "slow").host.name
    'slow'
    """
    import pruninfersim as pis

    if host is not None and stack in pis.stacks.STACKS and stack not in pis.stacks.ENGINES:
        raise InvalidInputError(
            f"--host: stack {stack} has no host, as it is kernels only; engines have one: "
            f"{', '.join(pis.stacks.ENGINES)}"
        )
    return stack if host is None else pis.stacks.engine(stack, host=host)


def gpu_names(given: list[str]) -> list[str]:
    """Return the names of GPUs that an option lists; ``all`` means every profile."""
    import pruninfersim as pis

    asked = values.read("--gpu", given, str)
    return pis.hardware.names() if asked == ["all"] else asked


def calibrated(files: list[Path], gpus: list[pis.HardwareProfile]) -> Callable[[str | Stack], Any]:
    """Return a function from a stack to the stack with the calibrations of some files.

    Raises
    ------
    InvalidInputError
        If a calibration is of none of the GPUs.
    """
    import pruninfersim as pis

    if not files:
        return lambda name: name
    own = [(file, pis.Calibration.from_toml(file)) for file in files]
    for file, calibration in own:
        if calibration.hardware not in [gpu.name for gpu in gpus]:
            raise InvalidInputError(
                f"--calibration: {file} is of {calibration.hardware}; ask for it with --gpu {calibration.hardware}"
            )

    def build(name: str | Stack) -> Callable[[pis.HardwareProfile], pis.CostModel]:
        def stack(gpu: pis.HardwareProfile) -> pis.CostModel:
            of_gpu = [calibration for _, calibration in own if calibration.hardware == gpu.name]
            base = pis.stacks.get(name, gpu)
            return base.with_calibrations(*of_gpu) if of_gpu else base

        return stack

    return build


def asks(**defaults: list[str]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that gives a command the options of a `Question`, which it takes as its first argument.

    Parameters
    ----------
    **defaults
        Values of options that are others than those of `Question`; None leaves the option out.

    >>> @asks(phase=["decode"])
    ... def show(question: Question, twice: bool = False) -> None:
    ...     print(question.phase, twice)
    >>> list(inspect.signature(show).parameters)[:3]
    ['twice', 'model', 'config']
    """
    hints = get_type_hints(Question, include_extras=True)
    keyword = inspect.Parameter.KEYWORD_ONLY
    shared = [
        inspect.Parameter(
            f.name,
            keyword,
            default=defaults.get(f.name, f.default_factory()),  # type: ignore[operator]
            annotation=hints[f.name],
        )
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
