"""Rows of the public timing tables in the PyPI package aiconfigurator-core (ai-dynamo/aiconfigurator, Apache-2.0)."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pruninfersim.errors import FileFormatError, MissingValueError, unknown_name

#: The release that the shipped coefficients come from.
RELEASE = "aiconfigurator-core 0.12.0"
SOURCE = f"ai-dynamo/aiconfigurator (Apache-2.0), PyPI {RELEASE}"
#: Shapes that the shipped coefficients are fitted to; all other shapes of the tables are left for checking them.
GRID_M = tuple(2**i for i in range(14))
GRID_NK = (512, 1024, 2048, 2560, 3584, 4096, 5120, 7168, 8192, 10240, 12288, 16384)
#: Decimals of a time in microseconds: what the collectors' timer resolves, and more.
DECIMALS = 3


@dataclass(frozen=True)
class Campaign:
    """One collector on one GPU: the folder of its table, and the precisions that were used from it."""

    folder: str
    dtypes: tuple[str, ...]


@dataclass(frozen=True)
class System:
    """Tables of one GPU: the package's name of it, and the campaigns.

    Those of vLLM are left out: its GEMM collector multiplies constant weights, whose toggling costs less power and
    time than real ones do (up to 12 %).
    """

    name: str
    campaigns: tuple[Campaign, ...]


_RECENT = (Campaign("trtllm/1.3.0rc20", ("bfloat16", "fp8")), Campaign("sglang/0.5.14", ("bfloat16",)))
_AMPERE = (Campaign("trtllm/1.0.0", ("bfloat16",)), Campaign("sglang/0.5.10", ("bfloat16",)))
#: GPU name -> its GEMM tables.
SYSTEMS = {
    "a100-sxm-80gb": System("a100_sxm", _AMPERE),
    "h100-sxm": System("h100_sxm", _RECENT),
    "h200-sxm": System("h200_sxm", _RECENT),
    "b200-sxm": System("b200_sxm", _RECENT),
    "l40s": System("l40s", _RECENT),
    "rtx-pro-6000-server": System("rtx_pro_6000_server", _RECENT),
}


def read_gemm(gpu: str, *, grid: bool = True, root: Path | None = None) -> pd.DataFrame:
    """Return the dense GEMM rows of one GPU, with the columns of a timings file.

    Parameters
    ----------
    gpu : str
        A key of `SYSTEMS`.
    grid : bool
        Only the shapes that the shipped coefficients are fitted to; False returns every shape.
    root : Path, optional
        Folder of the package; default is where it is installed.

    Raises
    ------
    UnknownNameError
        If the package has no table that is used for this GPU.
    MissingValueError
        If the package is not installed.
    FileFormatError
        If a table is missing or has other columns than in the release that this was written for.
    """
    if gpu not in SYSTEMS:
        raise unknown_name("GPU of aiconfigurator", gpu, SYSTEMS)
    system = SYSTEMS[gpu]
    folder = (root or _package()) / "systems" / "data" / system.name / "gemm"
    frames = []
    for campaign in system.campaigns:
        file = folder / campaign.folder / "gemm_perf.parquet"
        try:
            table = pd.read_parquet(file)
            table = table[table["gemm_dtype"].isin(campaign.dtypes)]
            if grid:
                table = table[table["m"].isin(GRID_M) & table["n"].isin(GRID_NK) & table["k"].isin(GRID_NK)]
            frame = pd.DataFrame({
                "gpu": gpu,
                "backend": campaign.folder.split("/")[0] + " " + table["version"] + " " + table["kernel_source"],
                "dtype": table["gemm_dtype"], "m": table["m"], "n": table["n"], "k": table["k"],
                "latency_us": (table["latency"] * 1e3).round(DECIMALS),
            })  # fmt: skip
        except (OSError, KeyError) as error:
            raise FileFormatError(f"{file}: not a GEMM table of {RELEASE} ({error}); install that release.") from None
        frames.append(frame)
    return pd.concat(frames).sort_values(["dtype", "m", "n", "k", "backend"], ignore_index=True)


def _package() -> Path:
    """Folder of the installed package, found without importing it."""
    spec = importlib.util.find_spec("aiconfigurator_core")
    if spec is None or spec.origin is None:
        raise MissingValueError(
            f"{RELEASE} is not installed; its tables are optional: pip install 'pruninfersim[aiconfigurator]'"
        )
    return Path(spec.origin).parent
