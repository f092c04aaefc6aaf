"""Command line: ``pruninfersim speedup | explain | report | trace | hardware | models | measure | ...``."""

from __future__ import annotations

import json
import sys
import warnings
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import pruninfersim as pis
from pruninfersim.errors import InvalidInputError, MissingValueError, ProvenanceWarning, PruninfersimError

app = typer.Typer(
    name="pruninfersim",
    help="How much faster can a pruned LLM get on a GPU, how much will real kernels deliver, and why not more?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class Format(StrEnum):
    """Output formats."""

    table = "table"
    json = "json"
    csv = "csv"


Model = Annotated[str, typer.Option(help="Name of a shipped model; see `pruninfersim models`.")]
Config = Annotated[Path | None, typer.Option(help="Hugging Face config.json to use instead of --model.")]
Gpu = Annotated[str, typer.Option("--gpu", "--hardware", help="GPU name; see `pruninfersim hardware`.")]
Phase = Annotated[str, typer.Option(help="prefill or decode.")]
Batch = Annotated[int, typer.Option(help="Sequences in the batch.")]
Context = Annotated[int, typer.Option(help="Prompt tokens (prefill), or keys attended to (decode).")]
Stack = Annotated[str, typer.Option(help="Software that runs the ops: vendor, paper or ideal.")]
Dtype = Annotated[str | None, typer.Option(help="Precision of the linear layers; default: the model's own.")]
Output = Annotated[Format, typer.Option("--format", help="table, json or csv.")]


def _model(model: str, config: Path | None) -> pis.ModelConfig:
    return pis.ModelConfig.from_hf(config) if config is not None else pis.models.get(model)


@app.command()
def speedup(
    model: Model = "llama-3.1-8b",
    config: Config = None,
    gpu: Gpu = "h100-sxm",
    method: Annotated[str, typer.Option(help="Name of a pruning method, or all.")] = "all",
    sparsity: Annotated[float, typer.Option(help="Fraction removed, in [0, 1).")] = 0.5,
    phase: Phase = "prefill",
    batch: Batch = 1,
    context: Context = 2048,
    stack: Stack = pis.stacks.DEFAULT,
    dtype: Dtype = None,
    output: Output = Format.table,
) -> None:
    """Predict the speedup of pruning methods."""
    every = method == "all"
    chosen = _model(model, config)
    results: dict[str, pis.Speedup] = {}
    notes: list[str] = []
    with warnings.catch_warnings():
        # The notes of each result say the same and are printed below the table.
        warnings.simplefilter("ignore", ProvenanceWarning)
        for name in pis.pruning.METHODS if every else [method]:
            try:
                results[name] = pis.speedup(
                    model=chosen,
                    hardware=gpu,
                    method=name,
                    sparsity=sparsity,
                    phase=phase,
                    batch=batch,
                    context=context,
                    stack=stack,
                    dtype=dtype,
                )
            except (InvalidInputError, MissingValueError) as error:
                # Of all methods, 2:4 alone may be impossible: above half, or on a GPU without sparse tensor cores.
                if not every or name != pis.pruning.SemiStructured.name:
                    raise
                notes.append(f"{name}: left out, {error}")
    if output is Format.json:
        typer.echo(json.dumps({name: result.to_dict() for name, result in results.items()}, indent=2))
        return
    frame = pd.DataFrame([_row(name, result) for name, result in results.items()])
    where = f"{chosen.name} on {gpu}, {phase}, batch {batch}, context {context}, stack {stack}"
    _show(frame, output, title=f"Speedup of {where}", caption=_caption(results, notes))


def _row(name: str, result: pis.Speedup) -> dict[str, Any]:
    achieved = {block: float(value) for blocks in result.achieved.values() for block, value in blocks.items()}
    low, high = result.interval
    return {
        "method": name,
        "achieved attention": achieved.get("attention", 0.0),
        "achieved mlp": achieved.get("mlp", 0.0),
        "1/(1-s)": result.claim,
        "flops": result.flops,
        "ideal": result.ideal,
        "estimated": result.estimated,
        "low": low,
        "high": high,
        "bound": result.bound,
        "dense [ms]": float(result.dense.latency) * 1e3,
        "pruned [ms]": float(result.pruned.latency) * 1e3,
    }


def _caption(results: dict[str, pis.Speedup], notes: list[str]) -> str:
    lines = [
        "estimated: what this stack delivers, 90 % interval low to high. bound: no kernel makes it faster.",
        "ideal: both sides at their roofline. flops: ratio of FLOPs. 1/(1-s): the usual claim.",
    ]
    lines += [f"{name}: {note}" for name, result in results.items() for note in result.notes]
    return "\n".join(lines + notes)


@app.command()
def trace(
    model: Model = "llama-3.1-8b",
    config: Config = None,
    gpu: Gpu = "h100-sxm",
    method: Annotated[str | None, typer.Option(help="Pruning method to apply first.")] = None,
    sparsity: Annotated[float, typer.Option(help="Fraction removed, in [0, 1).")] = 0.5,
    phase: Phase = "prefill",
    batch: Batch = 1,
    context: Context = 2048,
    stack: Stack = pis.stacks.DEFAULT,
    dtype: Dtype = None,
    output: Output = Format.table,
) -> None:
    """Print every op of a forward pass: shape, FLOPs, bytes, time and what bounds it."""
    chosen = _model(model, config)
    workload = pis.Workload.of(phase, batch, context, pis.stacks.default_logits(stack))
    ops = pis.trace(chosen, workload, dtype=dtype)
    if method is not None:
        ops = ops.prune(pis.pruning.get(method, sparsity))
    result = pis.estimate(ops, hardware=gpu, stack=stack)
    title = f"{chosen.name} on {gpu}, {phase}, batch {batch}, context {context}, stack {stack}: {result!r}"
    _show(result.to_frame(), output, title=title)


@app.command()
def explain(
    method: Annotated[str, typer.Option(help="Name of a pruning method.")],
    model: Model = "llama-3.1-8b",
    config: Config = None,
    gpu: Gpu = "h100-sxm",
    sparsity: Annotated[float, typer.Option(help="Fraction removed, in [0, 1).")] = 0.5,
    phase: Phase = "prefill",
    batch: Batch = 1,
    context: Context = 2048,
    stack: Stack = pis.stacks.DEFAULT,
    dtype: Dtype = None,
    output: Output = Format.table,
) -> None:
    """Say why a pruned model is not faster: steps from the claim 1/(1-s) to the estimate, which add up."""
    chosen = _model(model, config)
    workload = pis.Workload.of(phase, batch, context, pis.stacks.default_logits(stack))
    dense = pis.trace(chosen, workload, dtype=dtype)
    why = pis.explain(dense, dense.prune(pis.pruning.get(method, sparsity)), hardware=gpu, stack=stack)
    frame = why.to_frame()
    if output is Format.table:
        # Rounded to a femtosecond: a step that cancels exactly is 0, not what floating point leaves of it.
        milliseconds = frame[["seconds", "total_seconds"]].mul(1e3).round(12)
        frame = pd.DataFrame(
            {
                "step": frame["step"],
                "added [ms]": milliseconds["seconds"],
                "total [ms]": milliseconds["total_seconds"],
                "speedup so far": frame["speedup_so_far"],
                "meaning": frame["meaning"],
            }
        )
    where = f"{chosen.name} on {gpu}, {phase}, batch {batch}, context {context}, stack {stack}"
    dense_time = f"dense {float(why.speedup.dense.latency) * 1e3:.4g} ms"
    _show(frame, output, title=f"{method} at sparsity {sparsity:g}, {where}; {dense_time}")


@app.command()
def report(
    out: Annotated[Path, typer.Option(help="HTML file to write; it needs no network.")] = Path("report.html"),
    model: Model = "llama-3.1-8b",
    config: Config = None,
    gpu: Gpu = "h100-sxm",
    method: Annotated[str, typer.Option(help="Names of pruning methods, separated by commas, or all.")] = "all",
    sparsity: Annotated[float, typer.Option(help="Fraction removed, in [0, 1).")] = 0.5,
    phase: Annotated[str, typer.Option(help="both, prefill or decode.")] = "both",
    batch: Batch = 1,
    context: Context = 2048,
    stack: Stack = pis.stacks.DEFAULT,
    dtype: Dtype = None,
) -> None:
    """Write one HTML page with tables, plots, assumptions and provenance."""
    names = list(pis.pruning.METHODS) if method == "all" else [name.strip() for name in method.split(",")]
    logits = pis.stacks.default_logits(stack)
    phases = ["prefill", "decode"] if phase == "both" else [phase]
    workloads = [pis.Workload.of(each, batch, context, logits) for each in phases]
    path = pis.report.write_report(
        out,
        model=_model(model, config),
        hardware=gpu,
        methods=names,
        sparsity=sparsity,
        workloads=workloads,
        stack=stack,
        dtype=dtype,
    )
    typer.echo(f"wrote {path}")


@app.command("reproduce-paper")
def reproduce_paper(
    out: Annotated[Path, typer.Option(help="HTML file to write; the predicted grid goes next to it, as CSV.")] = Path(
        "paper.html"
    ),
    markdown: Annotated[Path | None, typer.Option(help="Write the page as Markdown, too.")] = None,
) -> None:
    """Predict the figures of arXiv 2606.09080 and lay them beside its measurements."""
    from pruninfersim import reproduce

    for path in reproduce.write_reproduction(out, markdown):
        typer.echo(f"wrote {path}")


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
    _show(frame, output, title="GPU profiles (dense tensor-core peaks, fp32 accumulation)")


@app.command()
def models(output: Output = Format.table) -> None:
    """List the shipped model configurations."""
    frame = pis.models.table().reset_index()
    if output is Format.table:
        shown = ["name", "family", "num_layers", "hidden_size", "intermediate_size", "num_heads", "num_kv_heads"]
        frame = frame[[*shown, "head_dim", "vocab_size", "parameters"]]
    _show(frame, output, title="Models")


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
    from pruninfersim.validation import of_gpu

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
    _show(fitted.table(), output, title=f"{kind} on {gpu}, {fitted.dtype}", caption=caption)


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
    _show(frame, output, title=f"Predictions for {gpu} against {rows.attrs.get('source', 'timings')}", caption=caption)


def _show(frame: pd.DataFrame, output: Format, *, title: str, caption: str = "") -> None:
    if output is Format.csv:
        typer.echo(frame.to_csv(index=False), nl=False)
    elif output is Format.json:
        typer.echo(frame.to_json(orient="records", indent=2))
    else:
        # Square brackets are units here; rich would take them for markup.
        table = Table(
            title=escape(title), caption=escape(caption) or None, caption_justify="left", title_justify="left"
        )
        for name in frame.columns:
            numeric = pd.api.types.is_numeric_dtype(frame[name])
            table.add_column(escape(str(name)), justify="right" if numeric else "left")
        for _, row in frame.iterrows():
            table.add_row(*(escape(_cell(value)) for value in row))
        Console(width=None if sys.stdout.isatty() else max(120, 14 * len(frame.columns))).print(table)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if pd.isna(value) else f"{value:.4g}"
    return "" if value is None else str(value)


def _complain(message: str) -> int:
    """Print one line on standard error, and return the exit code of bad input."""
    if message:  # empty where the help was shown already
        print("pruninfersim:", " ".join(message.split()), file=sys.stderr)
    return 2


def main() -> None:
    """Run the command line; bad input ends with one line on standard error and exit code 2."""
    try:
        code = app(standalone_mode=False)
    except PruninfersimError as error:
        code = _complain(str(error))
    except typer.TyperException as error:
        code = _complain(error.format_message())
    except typer.Abort:
        code = 130
    sys.exit(code if isinstance(code, int) else 0)
