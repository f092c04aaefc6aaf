"""The GPU at hand: is there one, what is it called here, and which software runs on it."""

from __future__ import annotations

import importlib.util
import platform
import re
import subprocess
from typing import Any

from pruninfersim import hardware
from pruninfersim.errors import PruninfersimError, UnknownNameError

#: Oldest torch that has all that is used (FlexAttention with grouped heads, for one).
OLDEST_TORCH = (2, 6)


def profile_name(title: str) -> str | None:
    """Return the name of the profile of a GPU as CUDA calls it, or None if it is not known.

    >>> profile_name("NVIDIA H100 80GB HBM3"), profile_name("NVIDIA GeForce RTX 4090 Laptop GPU")
    ('h100-sxm', None)
    """
    try:
        return hardware.get(title).name
    except UnknownNameError:
        return None


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
