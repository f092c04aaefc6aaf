"""Hardware profiles: what a GPU can do at most, in SI units, each number with its source."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from pruninfersim.errors import MissingValueError


class HardwareProfile(BaseModel):
    """One GPU. All figures are data-sheet figures; a missing one is ``None`` and raises when asked for.

    Attributes
    ----------
    name : str
        Registry name, for instance ``"h100-sxm"``.
    title : str
        Name as the vendor writes it.
    vendor, architecture, compute_capability : str
    sm_count : int
        Streaming multiprocessors (NVIDIA) or compute units.
    boost_clock, base_clock : float or None
        [Hz]
    memory_size : float
        [B]
    memory_bandwidth : float
        [B/s]
    l2_size : float or None
        [B]
    peak : dict
        Dense peak by dtype, tensor cores, fp32 accumulation [FLOP/s].
    peak_2of4 : dict
        2:4 sparse peak by dtype, counting the zeros as work [FLOP/s].
    tdp : float or None
        [W]
    sources : dict
        Source of each figure, by field name (``"peak.bf16"`` for a peak).
    reference : str
        Where the profile comes from as a whole.
    notes : str
        Conflicts between sources and how they were resolved.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    vendor: str
    architecture: str
    compute_capability: str
    sm_count: int = Field(gt=0)
    boost_clock: float | None = Field(default=None, gt=0)
    base_clock: float | None = Field(default=None, gt=0)
    memory_type: str
    memory_size: float = Field(gt=0)
    memory_bandwidth: float = Field(gt=0)
    l2_size: float | None = Field(default=None, gt=0)
    peak: dict[str, float]
    peak_2of4: dict[str, float] = {}
    tdp: float | None = Field(default=None, gt=0)
    sources: dict[str, str] = {}
    reference: str
    notes: str = ""

    def peak_flops(self, dtype: str, *, sparse: bool = False) -> float:
        """Return the peak rate for `dtype` [FLOP/s]; with `sparse` the 2:4 rate, zeros counted as work.

        Raises
        ------
        MissingValueError
            If the profile has no such figure.
        """
        table = self.peak_2of4 if sparse else self.peak
        if dtype not in table:
            kind = "2:4 sparse " if sparse else ""
            known = ", ".join(sorted(table)) or "none"
            raise MissingValueError(
                f"{self.name} has no {kind}peak for {dtype!r}. It has: {known}. "
                "Choose another dtype or GPU, or give a profile of your own with that figure."
            )
        return table[dtype]
