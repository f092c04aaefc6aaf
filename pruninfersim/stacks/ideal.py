"""The stack "ideal": every op at its roofline, exact by definition."""

from __future__ import annotations

from pruninfersim._util.doors import door
from pruninfersim.cost import CostModel, Priced
from pruninfersim.hardware import HardwareProfile
from pruninfersim.kernels.base import Roofline


@door
def ideal(hardware: HardwareProfile) -> CostModel:
    """Return the stack in which every op runs at its roofline, whatever its kernel key.

    >>> from pruninfersim import hardware
    >>> ideal(hardware.get("h100-sxm")).priced("a_key_of_yours", "bf16").provenance
    'roofline'
    """
    priced = Priced(Roofline(), "roofline", source="Williams et al. 2009, doi:10.1145/1498765.1498785")
    return CostModel("ideal", hardware, {}, priced)
