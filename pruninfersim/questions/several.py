"""Several results side by side: what `speedup` returns for lists."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from pruninfersim._util.doors import doors
from pruninfersim._util.lazy import drawn
from pruninfersim.questions.comparison import Speedup
from pruninfersim.questions.table import methods_of, printed, rows

if TYPE_CHECKING:
    import pandas as pd

    from pruninfersim.questions.explain import Explanation


@doors
@dataclass(frozen=True, eq=False, repr=False)
class Speedups(Sequence[Speedup]):
    """Results of one question with lists in it: a sequence of `Speedup` that tabulates, explains and draws itself.

    Attributes
    ----------
    results : tuple of Speedup

    >>> from pruninfersim import speedup
    >>> both = speedup(model="llama-3.1-8b", hardware=["l40s", "h100-sxm"], method="low-rank", sparsity=0.5,
    ...                stack="ideal")
    >>> both
    <2 Speedups of llama-3.1-8b, l40s, h100-sxm: estimated 1.6... to 1.7...>
    """

    results: tuple[Speedup, ...]

    def __len__(self) -> int:
        return len(self.results)

    @overload
    def __getitem__(self, index: int) -> Speedup: ...

    @overload
    def __getitem__(self, index: slice) -> Speedups: ...

    def __getitem__(self, index: int | slice) -> Speedup | Speedups:
        return Speedups(self.results[index]) if isinstance(index, slice) else self.results[index]

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know before quoting the numbers, each with whom it is about."""
        lines = [f"{r.method} on {r.hardware.name}: {note}" for r in self.results for note in r.notes]
        return tuple(dict.fromkeys(lines))

    def explain(self) -> tuple[Explanation, ...]:
        """Return the waterfall of each result."""
        return tuple(result.explain() for result in self.results)

    def plot(self, kind: str | None = None, **options: Any) -> Any:
        """Return a plotly figure: "bars" (the default) of single comparisons, "curve" or "heatmap" of sweeps."""
        return drawn(self, kind, options)

    def to_frame(self) -> pd.DataFrame:
        """Return the rows of all results, one after the other, as `Speedup.to_frame` has them."""
        import pandas as pd

        return pd.concat([result.to_frame() for result in self.results], ignore_index=True)

    def to_dict(self) -> list[dict[str, Any]]:
        """Return question and answer of each result as plain values, ready for JSON."""
        return [result.to_dict() for result in self.results]

    def __repr__(self) -> str:
        names = dict.fromkeys(r.model.name for r in self.results if r.model) | dict.fromkeys(
            r.hardware.name for r in self.results
        )
        values = np.concatenate([np.reshape(np.asarray(r.estimated), -1) for r in self.results])
        return f"<{len(self)} Speedups of {', '.join(names)}: estimated {values.min():.3g} to {values.max():.3g}>"

    def __str__(self) -> str:
        columns: dict[str, list[Any]] = {}
        for result in self.results:
            mine = rows(result) | {"method": [methods_of(result.pruned.trace)] * max(1, np.size(result.estimated))}
            for name, values in mine.items():
                columns.setdefault(name, []).extend(np.asarray(values).tolist())
        labels = [n for n in ("model", "hardware", "stack", "phase", "dtype") if len(set(columns[n])) > 1]
        notes = [f"note: {note}" for note in self.notes]
        return "\n".join([printed(columns, labels=("method", *labels)), *notes])

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"
