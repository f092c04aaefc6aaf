"""Commands that list what there is: ``hardware``, ``models``."""

from __future__ import annotations

import pandas as pd

import pruninfersim as pis
from pruninfersim.cli.options import Format, Output
from pruninfersim.cli.program import app
from pruninfersim.cli.show import show


@app.command()
def hardware(output: Output = Format.table) -> None:
    """List the GPU profiles."""
    frame = pis.hardware.table().reset_index()
    if output is Format.table:
        frame = pd.DataFrame(
            {
                "name": frame["name"],
                "architecture": frame["architecture"],
                "SMs": frame["sm_count"],
                "memory [GB]": frame["memory_size"] / 1e9,
                "bandwidth [TB/s]": frame["memory_bandwidth"] / 1e12,
                "L2 [MB]": frame["l2_size"] / 1e6,
                "bf16 [TFLOP/s]": frame["peak.bf16"] / 1e12,
                "fp8 [TFLOP/s]": frame["peak.fp8"] / 1e12,
                "2:4 bf16 [TFLOP/s]": frame["peak_2of4.bf16"] / 1e12,
            }
        )
    show(frame, output, title="GPU profiles (dense tensor-core peaks, fp32 accumulation)")


@app.command()
def models(output: Output = Format.table) -> None:
    """List the shipped model configurations."""
    frame = pis.models.table().reset_index()
    if output is Format.table:
        shown = ["name", "family", "num_layers", "hidden_size", "intermediate_size", "num_heads", "num_kv_heads"]
        frame = frame[[*shown, "head_dim", "vocab_size", "parameters"]]
    show(frame, output, title="Models")
