"""What makes two GPUs alike for a kernel: each trait is a text, and parameters carry over between equal ones."""

from __future__ import annotations

from pruninfersim.errors import UnknownNameError
from pruninfersim.hardware.profile import HardwareProfile, get

#: First words of the architectures of systolic parts.
SYSTOLIC = ("TPU", "Gaudi")


def capability(hardware: HardwareProfile) -> str:
    """Return the compute capability: which kernels a library has for the GPU."""
    return hardware.compute_capability


def generation(hardware: HardwareProfile) -> str:
    """Return architecture and major capability: Ampere and Ada share 8, data-centre and other Blackwell a name."""
    return f"{hardware.architecture.split()[0]} {hardware.compute_capability.split('.')[0]}"


def memory_class(hardware: HardwareProfile) -> str:
    """Return ``"HBM"`` for stacked memory, which data-centre parts have, else ``"other"`` (GDDR, LPDDR)."""
    return "HBM" if hardware.memory_type.upper().startswith("HBM") else "other"


def vendor_and_memory(hardware: HardwareProfile) -> str:
    """Return the vendor and its class of memory."""
    return f"{hardware.vendor} {memory_class(hardware)}"


def tensor_rate(hardware: HardwareProfile) -> str:
    """Return whether tensor cores run at half rate with fp32 accumulation, as on GeForce cards: "half" or "full".

    At half rate (512 bf16 FLOP per SM and clock) operand feed and power have slack, and both dense and 2:4 kernels
    reach their peak; elsewhere 2:4 falls short of its own by 15 to 20 % more than dense does. The profile declares it:
    a trait of the product must not change with the peak of a clone.

    >>> from pruninfersim import hardware
    >>> tensor_rate(hardware.get("rtx-4090")), tensor_rate(hardware.get("l40s"))
    ('half', 'full')
    """
    return hardware.tensor_rate


def capability_and_rate(hardware: HardwareProfile) -> str:
    """Return capability and tensor rate: cards at half rate do not meet their power limit."""
    return f"{hardware.compute_capability} {tensor_rate(hardware)}"


def systolic(hardware: HardwareProfile) -> bool:
    """Return whether a few large matrix engines do the work that GPUs spread over dozens of SMs.

    >>> from pruninfersim import hardware
    >>> [name for name in hardware.names() if systolic(hardware.get(name))]
    ['gaudi2', 'gaudi3', 'tpu-v5e', 'tpu-v5p', 'tpu-v6e']
    """
    return hardware.architecture.split()[0] in SYSTOLIC


def power_budget(hardware: HardwareProfile) -> float | None:
    """Return the power limit per 16-bit peak [J/FLOP]; None where the profile lacks one of the two.

    Of a clone, per peak of the card that it was made from: figures that are raised alone are raised as they are said to
    be, and only its power limit changes the clock that it sustains.

    >>> from pruninfersim import hardware
    >>> f"{power_budget(hardware.get('rtx-pro-6000-max-q')) * 1e12:.2f} pJ/FLOP"
    '0.65 pJ/FLOP'
    """
    try:
        rated = get(hardware.parent) if hardware.parent else hardware
    except UnknownNameError:
        rated = hardware  # a clone of a profile that is in no directory
    peak = rated.peak.get("bf16", rated.peak.get("fp16"))
    return hardware.tdp / peak if hardware.tdp and peak else None
