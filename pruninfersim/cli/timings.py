"""Commands about timings: ``measure``, ``calibrate``, ``validate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

import pruninfersim as pis
from pruninfersim.cli.options import Format, Gpu, Output
from pruninfersim.cli.program import app
from pruninfersim.cli.show import show
from pruninfersim.errors import InvalidInputError


@app.command()
def measure(
    suite: Annotated[str, typer.Option(help="all, or suites separated by commas; an unknown one lists them.")] = "all",
    plan: Annotated[bool, typer.Option("--plan", help="Print what would run and how long; needs no GPU.")] = False,
    budget: Annotated[str | None, typer.Option(help="Time for all, such as 8m; the most informative first.")] = None,
    gpu: Annotated[str | None, typer.Option("--gpu", "--hardware", help="GPU profile; default: the one here.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the CSV files; a run that was cut off goes on.")] = Path(
        "timings"
    ),
    repeats: Annotated[int, typer.Option(help="Timed repeats per shape.")] = 25,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try failed shapes again.")] = False,
) -> None:
    """Time kernels and layers on the GPU of this machine, for `pruninfersim.calibrate`."""
    from pruninfersim.measure import command

    command.measure(suite, plan_only=plan, budget=budget, gpu=gpu, out=out, repeats=repeats, retry_failed=retry_failed)


Timings = Annotated[
    Path | None, typer.Option("--timings", help="CSV of timings: gpu, dtype, latency_us and the shape.")
]
Origin = Annotated[str | None, typer.Option("--from", help="aiconfigurator: its public tables, instead of --timings.")]
Replay = Annotated[str, typer.Option(help="How they were taken: replayed (operands partly in L2) or cold.")]


def _timings(kind: str | None, gpu: str, file: Path | None, origin: str | None) -> pd.DataFrame:
    """Return the timings of one GPU from a file or from a public package."""
    from pruninfersim.calibration.validate import of_gpu

    if (file is None) == (origin is None):
        raise InvalidInputError("give either --timings FILE or --from aiconfigurator")
    if file is not None:
        return of_gpu(pis.read_timings(file, kind=kind), pis.hardware.get(gpu))
    if origin != "aiconfigurator":
        raise InvalidInputError(f"--from knows aiconfigurator only; got {origin!r}. Read your own CSV with --timings")
    return pis.timings.aiconfigurator(pis.hardware.get(gpu).name, kind or "gemm")


@app.command()
def calibrate(
    kind: Annotated[str, typer.Argument(help="Kind of kernel, such as gemm or attention_decode.")] = "gemm",
    gpu: Gpu = "h100-sxm",
    file: Timings = None,
    origin: Origin = None,
    dtype: Annotated[str | None, typer.Option(help="Precision to fit; default bf16 with --from.")] = None,
    cache: Replay = "replayed",
    out: Annotated[Path | None, typer.Option(help="TOML file to write.")] = None,
    output: Output = Format.table,
) -> None:
    """Fit the kernel model of a GPU to timings and print its coefficients."""
    rows = _timings(kind, gpu, file, origin)
    chosen = dtype or ("bf16" if origin is not None else None)
    fitted = pis.calibrate(kind, rows, gpu, dtype=chosen, cache=cache)  # type: ignore[arg-type]
    if out is not None:
        fitted.to_toml(out)
    ratios = ", ".join(f"{axis} {100 * error:.1f} %" for axis, error in fitted.ratio_error.items())
    caption = (
        f"{fitted.n_rows} rows of {fitted.source}. Mean absolute error {100 * fitted.fitted_error:.1f} % on them, "
        f"{100 * fitted.held_out_error:.1f} % on shapes left out; of speedups: {ratios or 'too few rows'}."
    )
    show(fitted.table(), output, title=f"{kind} on {gpu}, {fitted.dtype}", caption=caption)


@app.command()
def validate(
    kind: Annotated[str | None, typer.Argument(help="Kind of kernel; default: by the columns of the file.")] = None,
    gpu: Gpu = "h100-sxm",
    file: Timings = None,
    origin: Origin = None,
    cache: Replay = "replayed",
    output: Output = Format.table,
) -> None:
    """Compare timings with what the vendor stack predicts for them, by regime."""
    rows = _timings(kind, gpu, file, origin)
    frame = pis.validate(rows, gpu, kind=kind, cache=cache)  # type: ignore[arg-type]
    caption = (
        "Fractions, not percent. mape, median, p90: of abs(predicted / measured - 1). coverage: share inside the 90 % "
        "interval. roofline, three_parameter: the same mean error of simpler models."
    )
    show(frame, output, title=f"Predictions for {gpu} against {rows.attrs.get('source', 'timings')}", caption=caption)
