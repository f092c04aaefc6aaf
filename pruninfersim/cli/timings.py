"""Commands about timings: ``measure``, ``calibrate``, ``validate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pruninfersim.cli import values
from pruninfersim.cli.options import Format, Output
from pruninfersim.cli.program import app
from pruninfersim.cli.show import records, show
from pruninfersim.errors import InvalidInputError

#: GPU of the public tables where none is named.
PUBLIC_GPU = "h100-sxm"


@app.command()
def measure(
    suite: Annotated[str, typer.Option(help="all, or suites separated by commas; an unknown one lists them.")] = "all",
    plan: Annotated[bool, typer.Option("--plan", help="Print what would run and how long; needs no GPU.")] = False,
    budget: Annotated[
        str | None, typer.Option(help="Time for all, such as 8m or 90s; the most informative first.")
    ] = None,
    gpu: Annotated[str | None, typer.Option("--gpu", "--hardware", help="GPU profile; default: the one here.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the CSV files; a run that was cut off goes on.")] = Path(
        "timings"
    ),
    repeats: Annotated[int, typer.Option(help="Timed repeats per shape.")] = 25,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try failed shapes again.")] = False,
) -> None:
    """Time kernels and layers on the GPU of this machine.

    The files are for `pruninfersim calibrate`.
    """
    from pruninfersim.measure import command

    command.measure(suite, plan_only=plan, budget=budget, gpu=gpu, out=out, repeats=repeats, retry_failed=retry_failed)


Timings = Annotated[
    Path | None, typer.Option("--timings", help="CSV of timings: gpu, dtype, latency_us and the shape.")
]
Origin = Annotated[str | None, typer.Option("--from", help="aiconfigurator: its public tables, instead of --timings.")]
Replay = Annotated[str, typer.Option(help="How they were taken: replayed (operands partly in L2) or cold.")]
OneGpu = Annotated[
    str | None, typer.Option("--gpu", "--hardware", help="GPU that was timed; default: the one that the file names.")
]


def _timings(kind: str | None, gpu: str | None, file: Path | None, origin: str | None) -> tuple[Any, Any]:
    """Return the GPU that was timed, and its rows from a file or from a public table."""
    import pruninfersim as pis
    from pruninfersim.calibration.checks import rows_of

    if (file is None) == (origin is None):
        raise InvalidInputError("give either --timings FILE or --from aiconfigurator")
    if file is not None:
        return rows_of(pis.read_timings(file, kind=kind), gpu)
    if origin != "aiconfigurator":
        raise InvalidInputError(f"--from knows aiconfigurator only; got {origin!r}. Read your own CSV with --timings")
    profile = pis.hardware.get(gpu or PUBLIC_GPU)
    return profile, pis.timings.aiconfigurator(profile.name, kind or "gemm")


def _rows(frame: Any) -> list[dict[str, Any]]:
    """Return the rows of a frame with what identifies them."""
    named = frame.reset_index() if frame.index.name or frame.index.nlevels > 1 else frame
    return records(named)


@app.command()
def calibrate(
    kind: Annotated[
        str | None, typer.Argument(help="Kind of kernel, such as gemm; default: by the columns of the file.")
    ] = None,
    gpu: OneGpu = None,
    file: Timings = None,
    origin: Origin = None,
    dtype: Annotated[str | None, typer.Option(help="Precision to fit; default bf16 with --from.")] = None,
    cache: Replay = "replayed",
    out: Annotated[str | None, typer.Option(help="TOML file to write, - for standard output.")] = None,
    output: Output = Format.table,
) -> None:
    """Fit the kernel model of a GPU to timings.

    Use the file that --out writes with --calibration.
    """
    import pruninfersim as pis

    target = None if out is None else values.output_file(out)
    profile, rows = _timings(kind, gpu, file, origin)
    kind = kind or str(rows.attrs["kind"])
    chosen = dtype or ("bf16" if origin is not None else None)
    fitted = pis.calibrate(kind, rows, profile, dtype=chosen, cache=cache)  # type: ignore[arg-type]
    if target is not None:
        fitted.to_toml(target)
    elif out is not None:
        _to_standard_output(fitted)
        return
    ratios = ", ".join(f"{axis} {100 * error:.1f} %" for axis, error in fitted.ratio_error.items())
    caption = (
        f"{fitted.n_rows} rows of {fitted.source}. Mean absolute error {100 * fitted.fitted_error:.1f} % on them, "
        f"{100 * fitted.held_out_error:.1f} % on shapes left out; of speedups: {ratios or 'too few rows'}."
    )
    if out is not None:
        caption += f"\nwrote {out}; use it with --calibration {out} --gpu {fitted.hardware}"
    asked = {"gpu": fitted.hardware, "dtype": fitted.dtype, "kind": kind}
    drop = ("kind", "meaning")
    title = f"Calibration of {kind}"
    show([{**asked, **row} for row in _rows(fitted.table())], output, title=title, caption=caption, drop=drop)


def _to_standard_output(fitted: Any) -> None:
    """Write a calibration to standard output."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "calibration.toml"
        fitted.to_toml(path)
        values.write(None, path.read_text(encoding="utf-8"))


@app.command()
def validate(
    kind: Annotated[str | None, typer.Argument(help="Kind of kernel; default: by the columns of the file.")] = None,
    gpu: OneGpu = None,
    file: Timings = None,
    origin: Origin = None,
    calibration: Annotated[
        Path | None, typer.Option(help="Judge this file of `pruninfersim calibrate`, not the shipped one.")
    ] = None,
    cache: Replay = "replayed",
    output: Output = Format.table,
) -> None:
    """Compare timings with what is predicted for them."""
    import pruninfersim as pis

    profile, rows = _timings(kind, gpu, file, origin)
    own = None if calibration is None else pis.Calibration.from_toml(calibration)
    frame = pis.validate(rows, profile, kind=kind, calibration=own, cache=cache)  # type: ignore[arg-type]
    caption = (
        "Fractions, not percent. mape, median, p90: of abs(predicted / measured - 1). coverage: share inside the 90 % "
        "interval. roofline, three_parameter: the same mean error of simpler models."
    )
    found = [{**({} if "gpu" in row else {"gpu": profile.name}), **row} for row in _rows(frame)]
    title = f"Predictions against {rows.attrs.get('source', 'timings')}"
    drop = ("kind", "provenance", "three_parameter_mape", "roofline_mape", "p90", "median", "quantity")
    show(found, output, title=title, caption=caption, drop=drop)
