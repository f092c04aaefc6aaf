"""Sites of a model, each a layer, a role and a sparsity: what pruning them saves, and the cheapest choice of them."""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pruninfersim._util.arrays import FloatArray, checked
from pruninfersim._util.lazy import drawn
from pruninfersim.cost import Estimate
from pruninfersim.errors import InvalidInputError
from pruninfersim.pruning import LowRank, PerBlock, PerLayer, PerRole, SemiStructured, StaticDepth, StaticWidth
from pruninfersim.questions.setup import Setup
from pruninfersim.trace import FUSED, PruningMethod
from pruninfersim.workload import Workload

if TYPE_CHECKING:
    import pandas as pd

#: What a site is, by method: sub-layers, or linear layers.
BLOCKS = ("attention", "mlp")
LINEAR = ("q", "k", "v", "o", "gate", "up", "down")
#: Slack of a latency, relative: that of the solver [1].
TINY = 1e-6
#: Significant digits in which two layers are alike, so that it does not matter which of them is pruned.
ALIKE = 12


@dataclass(frozen=True, eq=False, repr=False)
class Sites:
    """What pruning each site saves; all arrays of shape (site,). A site is a layer, a role and a sparsity.

    Attributes
    ----------
    method : str
    layer, role, sparsity
        Where, and how much of it is removed [1].
    seconds : ndarray
        Saved in the pass; below 0 where pruning it is slower [s].
    parameters : ndarray
        Weights removed [1].
    importance : ndarray
        What pruning it costs: of an own table, or the weights removed.
    dense : float
        Time of the pass without pruning [s].
    fixed : float
        What the method adds to a pass however few sites are pruned: the transposes of 2:4 [s].
    setup, workload
    """

    method: str
    layer: NDArray[np.intp]
    role: tuple[str, ...]
    sparsity: FloatArray
    seconds: FloatArray
    parameters: FloatArray
    importance: FloatArray
    dense: float
    fixed: float
    setup: Setup
    workload: Workload

    def __len__(self) -> int:
        return len(self.role)

    @property
    def per_parameter(self) -> FloatArray:
        """Seconds saved for each weight that is removed, shape (site,) [s]."""
        return _ratio(self.seconds, self.parameters)

    @property
    def per_importance(self) -> FloatArray:
        """Seconds saved for each unit of importance, shape (site,) [s]."""
        return _ratio(self.seconds, self.importance)

    @property
    def fastest(self) -> float:
        """Time of the pass if every layer and role is pruned at the sparsity that saves most [s]."""
        return min(
            self.dense, self.dense + self.fixed - float(np.maximum(self._by_level(self.seconds), 0).max(axis=0).sum())
        )

    def _by_level(self, values: Any) -> FloatArray:
        """Return one value per site as (level, unit): a unit is a layer and role, which is pruned at one level only."""
        return np.asarray(values).reshape(len(np.unique(self.sparsity)), -1)

    def greedy(self, latency: float) -> Selection:
        """Return sites that reach a latency, the one that saves most for its importance first.

        Raises
        ------
        InvalidInputError
            If not even all sites together reach it.
        """
        need = self._need(latency)
        seconds, cost = self._by_level(self.seconds), self._by_level(self.importance)
        units = np.arange(seconds.shape[1])
        level = np.full(len(units), -1)
        saved, paid = np.zeros(len(units)), np.zeros(len(units))
        while saved.sum() < need * (1.0 - TINY):
            gain, more = seconds - saved, cost - paid
            worth = np.where(gain > 0, np.where(more > 0, gain / np.where(more > 0, more, 1.0), np.inf), -np.inf)
            best, unit = np.unravel_index(int(np.argmax(worth)), worth.shape)
            level[unit] = best
            saved[unit], paid[unit] = seconds[best, unit], cost[best, unit]
        return Selection(self, np.sort((level * len(units) + units)[level >= 0]))

    def exact(self, latency: float) -> Selection:
        """Return the sites of least importance that reach a latency: an integer programme, solved by scipy's milp.

        Layers that are alike are counted, not told apart; the first ones of them are pruned.

        Raises
        ------
        InvalidInputError
            If not even all sites together reach it.
        """
        need = self._need(latency)
        if need <= 0:
            return Selection(self, np.zeros(0, dtype=np.intp))
        from scipy.optimize import Bounds, LinearConstraint, milp

        seconds, cost = self._by_level(self.seconds), self._by_level(self.importance)
        scale = cost.max() or 1.0
        both = np.concatenate([seconds / need, cost / scale]).T
        _, first, kind, size = np.unique(
            np.round(both, ALIKE), axis=0, return_index=True, return_inverse=True, return_counts=True
        )
        levels, kinds = len(seconds), len(size)
        found = milp(
            (cost[:, first] / scale).reshape(-1),
            constraints=[
                LinearConstraint(np.tile(np.eye(kinds), levels), -np.inf, size),  # a unit at one level, or at none
                LinearConstraint((seconds[:, first] / need).reshape(-1), 1.0 - TINY / 2, np.inf),
            ],
            integrality=np.ones(levels * kinds),
            bounds=Bounds(0.0, np.tile(size, levels)),
            options={"mip_rel_gap": 0.0},
        )
        chosen: list[int] = []
        counts = np.rint(found.x).astype(int).reshape(levels, kinds)
        for each in range(kinds):
            units = np.flatnonzero(kind.reshape(-1) == each)
            at = np.repeat(np.arange(levels), counts[:, each])
            chosen += (at * seconds.shape[1] + units[: len(at)]).tolist()
        return Selection(self, np.sort(np.array(chosen, dtype=np.intp)))

    def _need(self, latency: float) -> float:
        """Return what has to be saved: nothing if the dense model is fast enough."""
        wanted = float(checked("latency", latency, minimum=1e-12))
        if wanted >= self.dense:
            return 0.0
        if wanted < self.fastest * (1.0 - TINY):
            raise InvalidInputError(
                f"{self.method} on all sites comes down to {self.fastest:.4g} s, not to {wanted:.4g} s (dense: "
                f"{self.dense:.4g} s); allow a higher sparsity of a site, or ask recommend for another method"
            )
        return self.dense + self.fixed - wanted

    def to_frame(self) -> pd.DataFrame:
        """Return one row per site, most seconds saved for its importance first."""
        import pandas as pd

        frame = pd.DataFrame(
            {
                "layer": self.layer,
                "role": self.role,
                "sparsity": self.sparsity,
                "seconds_saved": self.seconds,
                "parameters": self.parameters,
                "importance": self.importance,
                "seconds_per_parameter": self.per_parameter,
                "seconds_per_importance": self.per_importance,
            }
        )
        return frame.sort_values("seconds_per_importance", ascending=False, kind="stable", ignore_index=True)

    def plot(self, **options: Any) -> Any:
        """Return a plotly figure: seconds saved per weight, by layer and role."""
        return drawn(self, None, options)

    def __repr__(self) -> str:
        gain = f"{self.dense * 1e3:.4g} ms dense, {self.fastest * 1e3:.4g} ms with all"
        return f"<Sites of {self.method} in {self.setup.model.name} on {self.setup.hardware.name}: {len(self)}, {gain}>"

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(repr(self)[1:-1])}</p>{self.to_frame().to_html(index=False)}"


def _ratio(a: FloatArray, b: FloatArray) -> FloatArray:
    return np.divide(a, b, out=np.where(a > 0, np.inf, 0.0), where=b > 0)


@dataclass(frozen=True, eq=False, repr=False)
class Selection:
    """Sites that are pruned together.

    Attributes
    ----------
    sites : Sites
    chosen : ndarray of int
        Which of them.
    """

    sites: Sites
    chosen: NDArray[np.intp] = field(repr=False)

    @property
    def latency(self) -> float:
        """Time of the pass: that of the dense one less what each site saves [s]."""
        added = self.sites.fixed if len(self.chosen) else 0.0
        return self.sites.dense + added - float(self.sites.seconds[self.chosen].sum())

    @property
    def importance(self) -> float:
        """Importance of all that is pruned."""
        return float(self.sites.importance[self.chosen].sum())

    @property
    def parameters(self) -> float:
        """Weights that are removed [1]."""
        return float(self.sites.parameters[self.chosen].sum())

    @property
    def ratios(self) -> dict[str, FloatArray]:
        """Sparsity by role, each of shape (layer,); 0 where nothing is pruned [1]."""
        roles = BLOCKS if self.sites.method in ("static-depth", "static-width") else LINEAR
        out = {role: np.zeros(self.sites.setup.model.num_layers) for role in roles}
        for site in self.chosen:
            name = self.sites.role[site]
            for role in FUSED.get(name, (name,)):
                out[role][self.sites.layer[site]] = self.sites.sparsity[site]
        return out

    @property
    def method(self) -> PruningMethod:
        """The pruning method that does it, for any other question.

        Raises
        ------
        InvalidInputError
            For low rank with a linear layer that stays whole: `LowRank` makes pairs of all of them.
        """
        ratios, name = self.ratios, self.sites.method
        if name == "static-depth":
            gone = {f"{block}_layers": tuple(np.flatnonzero(ratios[block]).tolist()) for block in BLOCKS}
            return StaticDepth(**gone)  # type: ignore[arg-type]
        per_layer: dict[str, Any] = {role: PerLayer(values) for role, values in ratios.items()}
        if name == "static-width":
            return StaticWidth(PerBlock(**per_layer))
        if name == "semi-structured":
            return SemiStructured(PerRole(**per_layer))
        if not all(values.all() for values in ratios.values()):
            raise InvalidInputError(
                "LowRank makes pairs of all linear layers, at sparsity 0 too, and here some stay whole: use the ratios"
            )
        return LowRank(PerRole(**per_layer))

    def estimate(self) -> Estimate:
        """Predict the time of the whole model with these sites pruned; errors as `method`."""
        setup = self.sites.setup
        dense = setup.trace(self.sites.workload)
        return setup.estimate(dense.prune(self.method) if len(self.chosen) else dense)

    def to_frame(self) -> pd.DataFrame:
        """Return one row per site that is pruned."""
        import pandas as pd

        columns = ("layer", "sparsity", "seconds", "parameters", "importance")
        frame = pd.DataFrame({name: getattr(self.sites, name)[self.chosen] for name in columns})
        frame.insert(1, "role", [self.sites.role[site] for site in self.chosen])
        return frame

    def __repr__(self) -> str:
        return (
            f"<Selection of {len(self.chosen)} sites of {self.sites.method}: {self.latency * 1e3:.4g} ms of "
            f"{self.sites.dense * 1e3:.4g} ms, {self.parameters:.4g} weights removed, importance {self.importance:.4g}>"
        )
