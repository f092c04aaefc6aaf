"""Run by the gate in an environment that has nothing but the built wheel, from a folder outside the repository."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import pruninfersim as pis

FAMILIES = (
    "static-depth",
    "low-rank",
    "semi-structured",
    "static-width",
    "static-width-cross",
    "dynamic-depth",
    "sparse-attention",
)
GPUS = ("a100-sxm-80gb", "a100-pcie-80gb", "a800-80gb", "h100-sxm", "h100-pcie", "h200-sxm", "b200-sxm", "l40s")
GPUS += ("rtx-4090", "rtx-5080", "rtx-5090", "rtx-pro-6000", "rtx-pro-6000-server")


def check(condition: bool, message: str) -> None:
    if not condition:
        sys.exit(f"wheel: {message}")


def cli(*arguments: str) -> str:
    """Return what the installed program prints; its failure ends this script."""
    program = Path(sys.executable).with_name("pruninfersim")
    done = subprocess.run([program, *arguments], capture_output=True, text=True)
    check(done.returncode == 0, f"pruninfersim {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


package = Path(pis.__file__).parent
check(package.is_relative_to(sys.prefix), f"imported from {package}, not from the wheel")
check((package / "py.typed").is_file(), "py.typed is missing")
check(any((package / "hardware_profiles").glob("*.toml")), "the hardware profiles are missing")
check((package / "app" / "assets" / "explorer.css").is_file(), "the style sheet of the explorer is missing")

for gpu in GPUS:
    check(pis.hardware.get(gpu).memory_bandwidth > 0, f"no usable profile of {gpu}")

# No H100 with 2:4 or token-wise kernels was timed, and comparing says so; every other warning is an error here.
warnings.simplefilter("ignore", pis.errors.ProvenanceWarning)
for family in FAMILIES:
    result = pis.speedup(
        model="llama-3.1-8b",
        hardware="h100-sxm",
        method=family,
        sparsity=0.5,
        phase="prefill",
        batch=1,
        context=2048,
    )
    check(0.1 < float(result.estimated) <= float(result.bound), f"no sensible speedup of {family}: {result}")

case = ["--model", "llama-3.1-8b", "--gpu", "h100-sxm", "--phase", "decode", "--batch", "8", "--context", "2048"]
table = cli("speedup", *case, "--method", "all", "--sparsity", "0.5")
for family in FAMILIES:
    check(family in table, f"the speedup table does not show {family}:\n{table}")
check("h100-sxm" in cli("hardware"), "the hardware table does not show h100-sxm")
print(f"pruninfersim from {package}: {len(GPUS)} GPUs, {len(FAMILIES)} families, program and tables work")
