"""Print the prefill and decode speedups of all seven families for every supported config file in a folder.

Usage: python validation/models_table.py [FOLDER] [--gpu h100-sxm] [--stack vendor] [--sparsity 0.5]

FOLDER holds Hugging Face ``config.json`` files under any name. Default: ``models`` in the folder that the environment
variable PRUNINFERSIM_VALIDATION_DATA names.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from pathlib import Path

import pandas as pd

import pruninfersim as pis
from pruninfersim.errors import InvalidInputError, ProvenanceWarning, PruninfersimError, UnknownNameError

VARIABLE = "PRUNINFERSIM_VALIDATION_DATA"
#: Workload of each phase: 2048 prompt tokens, and a step of 8 sequences at context 4096.
PHASES = {"prefill": {"batch": 1, "context": 2048}, "decode": {"batch": 8, "context": 4096}}


def folder_of(given: str | None) -> Path:
    """Return the folder of config files, or end with a message that says how to give one."""
    if given is None and not os.environ.get(VARIABLE):
        sys.exit(
            f"no folder of config files: name one on the command line, or set {VARIABLE} to the folder above 'models'"
        )
    folder = Path(given) if given is not None else Path(os.environ[VARIABLE]) / "models"
    if not folder.is_dir():
        sys.exit(f"{folder} is not a folder")
    return folder


def table(folder: Path, gpu: str, stack: str, sparsity: float) -> tuple[pd.DataFrame, list[str]]:
    """Return one row per supported model and phase, and what was left out because its architecture is not supported.

    Raises
    ------
    PruninfersimError
        If a file of a supported architecture cannot be read or priced.
    """
    rows, left_out = [], []
    for file in sorted(folder.glob("*.json")):
        try:
            model = pis.ModelConfig.from_hf(file)
        except UnknownNameError as error:
            left_out.append(str(error))
            continue
        for phase, work in PHASES.items():
            row = {"model": model.name, "billions": round(model.parameters / 1e9, 2), "phase": phase}
            for method in pis.pruning.METHODS:
                try:
                    result = pis.speedup(
                        model=model, hardware=gpu, method=method, sparsity=sparsity, phase=phase, stack=stack, **work
                    )
                    row[method] = round(float(result.estimated), 3)
                except InvalidInputError:  # no kernel of the family for this architecture: latent attention
                    row[method] = None
            rows.append(row)
    return pd.DataFrame(rows), left_out


def main() -> None:
    """Read the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--gpu", default="h100-sxm")
    parser.add_argument("--stack", default=pis.stacks.DEFAULT)
    parser.add_argument("--sparsity", type=float, default=0.5)
    given = parser.parse_args()
    folder = folder_of(given.folder)
    warnings.simplefilter("ignore", ProvenanceWarning)
    try:
        frame, left_out = table(folder, given.gpu, given.stack, given.sparsity)
    except PruninfersimError as error:
        sys.exit(str(error))
    if frame.empty:
        sys.exit(f"{folder} has no config file of a supported architecture")
    print(f"speedups at sparsity {given.sparsity:g} on {given.gpu}, stack {given.stack}; {PHASES}")
    print(frame.to_string(index=False))
    print(f"{frame['model'].nunique()} models; left out, since not supported: {len(left_out)}")
    print("\n".join(f"  {line}" for line in left_out))


if __name__ == "__main__":
    main()
