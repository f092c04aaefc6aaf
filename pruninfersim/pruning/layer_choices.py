"""A table of choices, one per layer and sub-layer: no-op, linear, fewer KV heads, narrower FFN. Puzzle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from pruninfersim._util.doors import doors
from pruninfersim.errors import InvalidInputError, shown
from pruninfersim.pruning.base import OPENER, overhead_rows, targets
from pruninfersim.pruning.ratios import model_of
from pruninfersim.pruning.static_depth import StaticDepth
from pruninfersim.pruning.static_width import heads_of
from pruninfersim.trace import OpTrace

#: What a sub-layer can become, beside a size: nothing, one [D, D] product behind its norm, or what it was.
WORDS = ("keep", "none", "linear")
Choice = str | int


@doors
@dataclass(frozen=True, eq=False)
class LayerChoices:
    """Replace sub-layers as a table says (Puzzle, arXiv 2411.19146).

    Attributes
    ----------
    attention : tuple of str or int
        One choice per layer: "keep", "none", "linear", or how many KV heads are left; query heads stay, as many as
        there were, and share them.
    mlp : tuple of str or int
        "keep", "none", "linear", or the width of the FFN that is left.

    >>> from pruninfersim import Workload, trace
    >>> table = LayerChoices(attention=("keep",) * 24 + ("none",) * 8, mlp=(7168,) * 32)
    >>> pruned = trace("llama-3.1-8b", Workload.decode()).prune(table)
    >>> {block: float(share) for block, share in pruned.applied[0].achieved.items()}
    {'attention': 0.25, 'mlp': 0.5}
    """

    name: ClassVar[str] = "layer-choices"

    attention: tuple[Choice, ...] = ()
    mlp: tuple[Choice, ...] = ()

    def __post_init__(self) -> None:
        for name in ("attention", "mlp"):
            choices = tuple(getattr(self, name))
            object.__setattr__(self, name, choices)
            for choice in choices:
                number = isinstance(choice, int) and not isinstance(choice, bool) and choice > 0
                if not number and choice not in WORDS:
                    raise InvalidInputError(
                        f"a choice for {name} is one of {', '.join(WORDS)}, or a size above 0; got {shown(choice)}"
                    )

    @classmethod
    def from_table(cls, rows: Sequence[Mapping[str, Any]]) -> LayerChoices:
        """Return the choices of a table with one mapping per layer, in order; what a row leaves out is kept.

        >>> LayerChoices.from_table([{"mlp": "none"}, {"attention": 2}]).attention
        ('keep', 2)
        """
        for row in rows:
            if strange := sorted(set(row) - {"attention", "mlp", "layer"}):
                raise InvalidInputError(f"a row of the table has attention and mlp; got {', '.join(strange)} too")
        return cls(*(tuple(row.get(name, "keep") for row in rows) for name in ("attention", "mlp")))

    def apply(self, trace: OpTrace) -> OpTrace:
        """Return the trace with other sub-layers.

        Raises
        ------
        InvalidInputError
            If there is not one choice per layer, a size is above that of the model, or KV heads do not divide the query
            heads.
        """
        layers = model_of(trace).num_layers
        chosen = {name: tuple(getattr(self, name)) or ("keep",) * layers for name in ("attention", "mlp")}
        for name, choices in chosen.items():
            if len(choices) != layers:
                raise InvalidInputError(f"need one choice for {name} per layer, {layers}; got {len(choices)}")
        trace = trace.unfold()
        targets(trace, self.name, ["attention"], ["attention_prefill", "attention_decode"], keeps_kernel=True)
        extra = [row for block in OPENER for row in self._linear(trace, block, chosen[block])]
        narrow = self._narrowed(trace, chosen["attention"], chosen["mlp"])
        gone = {
            f"{block}_layers": tuple(i for i, choice in enumerate(choices) if choice in ("none", "linear"))
            for block, choices in chosen.items()
        }
        left = StaticDepth(**gone).apply(narrow) if any(gone.values()) else narrow  # type: ignore[arg-type]
        pruned = left.concat(OpTrace.from_rows(extra)) if extra else left
        return replace(pruned, applied=trace.applied)

    def _narrowed(self, trace: OpTrace, attention: tuple[Choice, ...], mlp: tuple[Choice, ...]) -> OpTrace:
        def sizes(choices: tuple[Choice, ...]) -> np.ndarray:
            rows = [choices[row[0]] if row else "keep" for row in trace.layers]
            return np.array([float(choice) if isinstance(choice, int) else np.inf for choice in rows])

        width, heads = sizes(mlp), sizes(attention)
        model = model_of(trace)
        if np.any(width[np.isfinite(width)] > model.intermediate_size):
            raise InvalidInputError(f"an FFN width of the table is above the {model.intermediate_size} of the model")
        if np.any(heads[np.isfinite(heads)] > model.num_kv_heads):
            raise InvalidInputError(f"a number of KV heads of the table is above the {model.num_kv_heads} of the model")
        groups, group = heads_of(trace)
        uneven = np.isfinite(heads) & (np.rint(groups * group) % np.where(np.isfinite(heads), heads, 1.0) > 0)
        if uneven.any():
            at = int(np.argwhere(uneven)[0][-1])
            queries = float(np.broadcast_to(groups * group, uneven.shape)[..., at].flat[0])
            raise InvalidInputError(
                f"{heads[at]:g} KV heads of the table do not divide the {queries:g} query heads of layer "
                f"{trace.layers[at][0]}: every KV head serves as many of them"
            )
        kv = np.minimum(heads / groups, 1.0)

        def narrowed(size: np.ndarray, axes: tuple[str, ...]) -> np.ndarray:
            label = np.array(axes)
            out = np.where(label == "ffn", np.minimum(size, width), size)
            out = np.where(label == "kv_heads", size * kv, out)
            return np.where(label == "qk", size * (group + kv) / (group + 1.0), out)

        attends = trace.mask(names=["attention"])
        return trace.with_columns(
            n=narrowed(trace.n, trace.n_axis),
            k=narrowed(trace.k, trace.k_axis),
            b_batch=np.where(attends, trace.b_batch * kv, trace.b_batch),
        )

    def _linear(self, trace: OpTrace, block: str, choices: tuple[Choice, ...]) -> list[dict[str, Any]]:
        """Return norm and [D, D] product of the sub-layers that become linear."""
        rows: list[dict[str, Any]] = []
        wanted = {i for i, choice in enumerate(choices) if choice == "linear"}
        product = {"name": f"linear_{block}", "kernel": "gemm", "gemms": 1.0, "n_axis": "hidden", "k_axis": "hidden"}
        for made in overhead_rows(trace, block, wide=("n", "k"), **product) if wanted else []:
            if wanted & set(made["layers"]):
                norm = {
                    "name": f"linear_{block}_norm",
                    "kernel": "norm",
                    "gemms": 0.0,
                    "a_reads": 2.0,
                    "out_writes": 2.0,
                }
                rows += [made | norm, made]
        return rows
