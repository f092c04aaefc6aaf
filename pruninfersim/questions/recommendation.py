"""The answer of `recommend`: options, best first, and what would do where none does."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pruninfersim._util.lazy import drawn
from pruninfersim.cost import Estimate
from pruninfersim.questions.candidates import Work
from pruninfersim.questions.comparison import Speedup
from pruninfersim.questions.request import Request
from pruninfersim.questions.setup import Setup
from pruninfersim.questions.table import aligned, plain
from pruninfersim.questions.target import DISTRIBUTION, PARTS, Target
from pruninfersim.workload import Workload

if TYPE_CHECKING:
    import pandas as pd

#: Other GPUs that a text names.
MOST_NAMES = 6
INFINITE = float("inf")


@dataclass(frozen=True, eq=False, repr=False)
class Option:
    """One method on one GPU, at the least sparsity that meets the target, or else where it comes closest.

    Attributes
    ----------
    method, hardware : str
        "dense" is the model as it is.
    sparsity : float or None
        Fraction removed [1]; None where nothing may be removed.
    meets : bool
        Whether the target is met, with the chance and the quality loss that were asked for.
    chance : float
        Of meeting the target [1].
    reached : float
        How much of the target is reached [1]: from 1 on the estimate meets it.
    values : mapping of str to float
        Estimate by part of a target: latency [s], speedup [1], throughput [tokens/s], memory [B] ...
    intervals : mapping of str to (float, float)
        Their 90 % intervals.
    fits : bool
        Whether weights and KV cache fit into the memory of the GPU.
    quality_loss : float or None
        From the quality table [%].
    quality_from : str
        Which method of the table it is the loss of; two that it lies between.
    needs_loss : float or None
        Loss at which the target would be met, where it is not met within the one that is allowed [%].
    why_not : str
        Why there are no numbers.
    result : Speedup, Request or Estimate, optional
        The whole answer behind the numbers.
    """

    method: str
    hardware: str
    sparsity: float | None
    meets: bool
    chance: float
    reached: float
    values: Mapping[str, float] = field(default_factory=dict)
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    fits: bool = False
    quality_loss: float | None = None
    quality_from: str = ""
    needs_loss: float | None = None
    why_not: str = ""
    result: Speedup | Request | Estimate | None = None

    @classmethod
    def without(cls, method: str, hardware: str, why_not: str, needs_loss: float | None = None) -> Option:
        """Return an option that has no numbers, with the reason."""
        return cls(method, hardware, None, False, 0.0, 0.0, why_not=why_not, needs_loss=needs_loss)

    @property
    def order(self) -> tuple[float, ...]:
        """Rank among options: what meets the target first, by loss, sparsity, then cost or time; else the closest."""
        if not self.meets:
            return (1.0, -self.reached)
        loss = INFINITE if self.quality_loss is None else self.quality_loss
        return (0.0, loss, self.sparsity or 0.0, self.values.get("cost", 0.0), self.values["latency"])

    @property
    def label(self) -> str:
        """The method, with its sparsity."""
        return self.method if self.method == "dense" or self.sparsity is None else f"{self.method} {self.sparsity:g}"

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know before quoting the numbers."""
        return self.result.notes if self.result is not None else ()

    def __repr__(self) -> str:
        if self.sparsity is None:
            return f"<Option {self.method} on {self.hardware}: {self.why_not}>"
        loss = "" if self.quality_loss is None else f", loss {self.quality_loss:.3g} %"
        met = "meets" if self.meets else "misses"
        return f"<Option {self.label} on {self.hardware}: {met} the target, chance {self.chance:.2f}{loss}>"


@dataclass(frozen=True, eq=False, repr=False)
class Recommendation:
    """What meets a target, best first; iterates over its options.

    Attributes
    ----------
    options : tuple of Option
        Those that meet the target first: least quality loss, then least sparsity. The others by how close they come.
    target : Target
    max_quality_loss : float or None
        [%]
    chance : float
        Least chance that counts as meeting the target [1].
    setup : Setup
        Model and software, on the first GPU.
    work : Workload or mapping
        The pass, or the keywords of the request.
    elsewhere : callable
        Looks for `other_gpus`.
    """

    options: tuple[Option, ...]
    target: Target
    max_quality_loss: float | None
    chance: float
    setup: Setup
    work: Work
    elsewhere: Callable[[], tuple[Option, ...]]

    #: What the chances suppose.
    distribution = DISTRIBUTION

    def __iter__(self) -> Iterator[Option]:
        return iter(self.options)

    def __len__(self) -> int:
        return len(self.options)

    @property
    def meets(self) -> bool:
        """Whether any option meets the target."""
        return any(option.meets for option in self.options)

    @property
    def best(self) -> Option | None:
        """The first option, if it meets the target."""
        return self.options[0] if self.meets else None

    @property
    def closest(self) -> Option:
        """The first option, whether it meets the target or only comes closest to it."""
        return self.options[0]

    @cached_property
    def other_gpus(self) -> tuple[Option, ...]:
        """The best option on each GPU that nobody asked for and that would do; looked for where none that was does."""
        return () if self.meets else self.elsewhere()

    @property
    def would(self) -> tuple[str, ...]:
        """What would meet the target, in words; empty where something does."""
        if self.meets:
            return ()
        first = self.closest
        said = [f"closest: {first.label} on {first.hardware}, {100 * first.reached:.0f} % of the target"] * bool(
            first.values
        )
        with_loss = [option for option in self.options if option.needs_loss is not None]
        if with_loss:
            least = min(with_loss, key=lambda option: option.needs_loss or 0.0)
            said.append(f"a loss of {least.needs_loss:.1f} % would do: {least.method} on {least.hardware}")
        if self.other_gpus:
            names = [f"{option.hardware} ({option.label})" for option in self.other_gpus[:MOST_NAMES]]
            more = len(self.other_gpus) - len(names)
            said.append(f"other GPUs would do: {', '.join(names)}{f' and {more} more' if more > 0 else ''}")
        return tuple(said)

    @property
    def question(self) -> str:
        """What was asked, as one line."""
        gpus = dict.fromkeys(option.hardware for option in self.options)
        of = f"{self.setup.model.name} on {', '.join(gpus)}, {self._work}, {self.setup.stack.stack}, {self.setup.dtype}"
        loss = "" if self.max_quality_loss is None else f", quality loss at most {self.max_quality_loss:g} %"
        return f"{of}: {self.target}{loss}"

    @property
    def _work(self) -> str:
        if isinstance(self.work, Workload):
            return f"{self.work.phase}, batch {float(self.work.batch):g}, context {float(self.work.context):g}"
        named = {"batch": "batch {}", "prompt": "prompt {}", "new_tokens": "{} new tokens", "clients": "{} clients"}
        return ", ".join(text.format(self.work[key]) for key, text in named.items() if self.work[key] is not None)

    @property
    def _parts(self) -> list[str]:
        return [name for name in PARTS if any(name in option.values for option in self.options)]

    def to_frame(self) -> pd.DataFrame:
        """Return one row per option, with units in the column names."""
        import pandas as pd

        return pd.DataFrame([_row(option, self._parts) for option in self.options])

    def to_dict(self) -> dict[str, Any]:
        """Return question and answer as plain values, ready for JSON."""
        return {
            "question": self.question,
            "target": self.target.parts,
            "max_quality_loss": self.max_quality_loss,
            "least_chance": self.chance,
            "distribution": self.distribution,
            "meets": self.meets,
            "would": list(self.would),
            "options": [plain(_row(option, self._parts)) for option in self.options],
        }

    def plot(self, **options: Any) -> Any:
        """Return a plotly figure: how likely each option meets the target, against its quality loss or sparsity."""
        return drawn(self, None, options)

    def __repr__(self) -> str:
        return (
            f"<Recommendation for {self.question}: {sum(o.meets for o in self.options)} of {len(self)} options meet it>"
        )

    def __str__(self) -> str:
        return "\n".join([self.question, self._table(), *self._said()])

    def _said(self) -> list[str]:
        head = [] if self.meets else ["nothing meets the target"]
        reasons = [f"{o.method} on {o.hardware}: {o.why_not}" for o in self.options if o.why_not]
        return [*head, *self.would, *reasons]

    def _table(self) -> str:
        several = len({option.hardware for option in self.options}) > 1
        lossy = any(option.quality_loss for option in self.options)
        names = [name for name in self._parts if name in ("latency", "speedup", *self.target.parts)]
        head = [
            "method",
            *(["GPU"] if several else []),
            "sparsity",
            *(["loss [%]"] if lossy else []),
            "meets",
            "chance",
        ]
        lines = [[*head, *(COLUMNS[name][0] for name in names)]]
        for option in self.options:
            if option.why_not:
                continue
            loss = "" if option.quality_loss is None else f"{option.quality_loss:.1f}"
            cells = [option.method, *([option.hardware] if several else []), f"{option.sparsity:g}"]
            cells += [*([loss] if lossy else []), "yes" if option.meets else "no", f"{option.chance:.2f}"]
            lines.append([*cells, *(f"{option.values[name] * COLUMNS[name][1]:.4g}" for name in names)])
        return aligned(lines, left=(0, 1) if several else (0,))

    def _repr_html_(self) -> str:
        said = "".join(f"<p>{html.escape(text)}</p>" for text in self._said())
        return f"<p>{html.escape(self.question)}</p>{self.to_frame().to_html(index=False, na_rep='')}{said}"


#: Part of a target -> head of a printed table, what its numbers are multiplied with there, column of a frame.
COLUMNS: dict[str, tuple[str, float, str]] = {
    "latency": ("latency [ms]", 1e3, "seconds"),
    "ttft": ("TTFT [ms]", 1e3, "ttft_seconds"),
    "tpot": ("TPOT [ms]", 1e3, "tpot_seconds"),
    "speedup": ("speedup", 1.0, "speedup"),
    "throughput": ("tokens/s", 1.0, "tokens_per_second"),
    "memory": ("memory [GB]", 1e-9, "memory_bytes"),
    "cost": ("cost of 1M", 1.0, "cost_per_million_tokens"),
}


def _row(option: Option, names: Iterable[str]) -> dict[str, Any]:
    """Return an option as one row, with estimate and interval of some parts of a target."""
    row: dict[str, Any] = {
        "method": option.method,
        "hardware": option.hardware,
        "sparsity": option.sparsity,
        "meets": option.meets,
        "chance": option.chance,
        "reached": option.reached,
        "quality_loss_percent": option.quality_loss,
        "quality_from": option.quality_from,
    }
    for name in names:
        column = COLUMNS[name][2]
        row[column] = option.values.get(name)
        row[f"{column}_low"], row[f"{column}_high"] = option.intervals.get(name, (None, None))
    return row | {"fits": option.fits, "needs_loss_percent": option.needs_loss, "note": option.why_not}
