"""The GPU at hand: is there one, what is it called here, and which software runs on it."""

from __future__ import annotations

import importlib.util
import platform
import re
import subprocess
from typing import Any

from pruninfersim.errors import PruninfersimError

#: Oldest torch that has all that is used (FlexAttention with grouped heads, for one).
OLDEST_TORCH = (2, 6)
#: What CUDA calls a GPU -> its profile; the first match counts.
NAMES = (
    (r"H100 80GB HBM3", "h100-sxm"), (r"H100 PCIe", "h100-pcie"), (r"H100 NVL", "h100-nvl"), (r"H200", "h200-sxm"),
    (r"GH200.*144", "gh200-144gb"), (r"GH200", "gh200-96gb"), (r"H800", "h800-sxm"), (r"H20\b", "h20"),
    (r"A100-SXM4-80GB", "a100-sxm-80gb"), (r"A100-SXM4-40GB", "a100-sxm-40gb"),
    (r"A100 80GB PCIe", "a100-pcie-80gb"), (r"A100-PCIE-40GB", "a100-pcie-40gb"), (r"A800", "a800-80gb"),
    (r"GB300", "gb300"), (r"GB200", "gb200"), (r"B300", "b300-sxm"), (r"B200", "b200-sxm"), (r"GB10\b", "gb10"),
    (r"L40S", "l40s"), (r"L40\b", "l40"), (r"L4\b", "l4"), (r"A40\b", "a40"), (r"A30\b", "a30"), (r"A10G", "a10g"),
    (r"A10\b", "a10"), (r"RTX PRO 6000.*Server", "rtx-pro-6000-server"), (r"RTX PRO 6000.*Max-Q", "rtx-pro-6000-max-q"),
    (r"RTX PRO 6000", "rtx-pro-6000-workstation"), (r"RTX 6000 Ada", "rtx-6000-ada"), (r"RTX A6000", "rtx-a6000"),
    (r"RTX 3090(?! Ti)", "rtx-3090"), (r"RTX 4090(?! (D|Laptop))", "rtx-4090"), (r"RTX 5080(?! Laptop)", "rtx-5080"),
    (r"RTX 5090(?! (D|Laptop))", "rtx-5090"), (r"T4\b", "t4"),
)  # fmt: skip


def profile_name(title: str) -> str | None:
    """Return the name of the profile of a GPU as CUDA calls it, or None if it is not known.

    >>> profile_name("NVIDIA H100 80GB HBM3"), profile_name("NVIDIA GeForce RTX 4090 Laptop GPU")
    ('h100-sxm', None)
    """
    return next((name for pattern, name in NAMES if re.search(pattern, title)), None)


def need_torch() -> Any:
    """Return torch.

    Raises
    ------
    PruninfersimError
        If it is not installed, or too old.
    """
    if importlib.util.find_spec("torch") is None:
        raise PruninfersimError(
            "measure needs torch, which is not installed: pip install 'pruninfersim[measure]'. "
            "With --plan it only prints what would run, without torch"
        )
    import torch

    found = tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2])
    if found < OLDEST_TORCH:
        wanted = ".".join(map(str, OLDEST_TORCH))
        raise PruninfersimError(f"measure needs torch {wanted} or later; found {torch.__version__}")
    return torch


def need_cuda() -> Any:
    """Return torch if it sees a CUDA GPU.

    Raises
    ------
    PruninfersimError
        If it does not.
    """
    torch = need_torch()
    if not torch.cuda.is_available():
        raise PruninfersimError(
            f"measure needs an NVIDIA GPU, and torch {torch.__version__} sees none: run it where nvidia-smi lists "
            "a GPU, with a CUDA build of torch. With --plan it only prints what would run"
        )
    return torch


def driver_version() -> str:
    """Return the version of the driver, as nvidia-smi tells it."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.split("\n", 1)[0].strip() or "unknown"


def environment(torch: Any) -> dict[str, str]:
    """Return what has to be equal for timings to belong together: device and versions."""
    device = torch.cuda.get_device_properties(0)
    triton = importlib.util.find_spec("triton")
    return {
        "device": device.name,
        "compute capability": f"{device.major}.{device.minor}",
        "multiprocessors": str(device.multi_processor_count),
        "L2 [B]": str(device.L2_cache_size),
        "memory [B]": str(device.total_memory),
        "driver": driver_version(),
        "torch": torch.__version__,
        "CUDA of torch": str(torch.version.cuda),
        "triton": __import__("triton").__version__ if triton else "none",
        "python": platform.python_version(),
    }


def smi_identifier(torch: Any) -> str:
    """Return how nvidia-smi finds the GPU that torch uses, whatever CUDA_VISIBLE_DEVICES says."""
    uuid = getattr(torch.cuda.get_device_properties(0), "uuid", None)
    return f"GPU-{uuid}" if uuid is not None else "0"
