"""Commands that list what there is, or show one of it: ``hardware``, ``models``, ``methods``, ``stacks``."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from pruninfersim._util.table import listing, printable, screen_width
from pruninfersim.cli.options import Format, Output, _names
from pruninfersim.cli.program import app
from pruninfersim.cli.show import records, show


@app.command()
def hardware(
    name: Annotated[str | None, typer.Argument(autocompletion=_names("hardware"), help="Show this GPU alone.")] = None,
    output: Output = Format.table,
) -> None:
    """List the GPU profiles, or show one with its sources."""
    import pruninfersim as pis

    if name is not None:
        _one_gpu(pis.hardware.get(name), output)
        return
    profiles = [pis.hardware.get(each) for each in pis.hardware.names()]
    if output is not Format.table:
        show(records(pis.hardware.table().reset_index()), output, title="")
        return
    rows = [
        {
            "name": gpu.name,
            "architecture": gpu.architecture,
            "SMs": gpu.sm_count,
            "memory [GB]": gpu.memory_size / 1e9,
            "bandwidth [TB/s]": gpu.memory_bandwidth / 1e12,
            "L2 [MB]": None if gpu.l2_size is None else gpu.l2_size / 1e6,
            "bf16 [TFLOP/s]": _tera(gpu.peak.get("bf16")),
            "fp8 [TFLOP/s]": _tera(gpu.peak.get("fp8")),
            "2:4 bf16 [TFLOP/s]": _tera(gpu.peak_2of4.get("bf16")),
        }
        for gpu in profiles
    ]
    drop = ("L2 [MB]", "SMs", "2:4 bf16 [TFLOP/s]", "architecture")
    title = "GPU profiles (dense tensor-core peaks, fp32 accumulation)"
    show(rows, output, title=title, caption="`pruninfersim hardware NAME` shows one, with its sources.", drop=drop)


def _tera(value: float | None) -> float | None:
    return None if value is None else value / 1e12


def _one_gpu(gpu: Any, output: Format) -> None:
    """Show one profile: each figure with its unit and source."""
    facts = {
        "name": gpu.name, "title": gpu.title, "vendor": gpu.vendor, "architecture": gpu.architecture,
        "compute capability": gpu.compute_capability, "memory type": gpu.memory_type,
    }  # fmt: skip
    rows = [{"gpu": gpu.name, "figure": key, "value": value, "unit": "", "source": ""} for key, value in facts.items()]
    rows += [
        {"gpu": gpu.name, "figure": key, "value": value, "unit": unit, "source": gpu.sources.get(key, "")}
        for key, value, unit in gpu._figures()
    ]
    if output is not Format.table:
        show([row for row in rows if row["value"]], output, title="")
        return
    lines = [(key, str(value)) for key, value in facts.items() if value]
    lines += [
        (key, f"{_scaled(value, unit)}{f' ({source})' if source else ''}")
        for key, value, unit in gpu._figures()
        for source in [gpu.sources.get(key, "")]
    ]
    lines += [(key, text) for key, text in (("reference", gpu.reference), ("notes", gpu.notes)) if text]
    typer.echo(printable(listing(lines, screen_width())))


def _scaled(value: float, unit: str) -> str:
    """Return a figure with a prefix that a person reads.

    >>> _scaled(3.35e12, "B/s"), _scaled(132, "")
    ('3.35 TB/s', '132')
    """
    if not unit or unit == "W":
        return f"{value:g} {unit}".strip()
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= factor:
            return f"{value / factor:.6g} {prefix}{unit}"
    return f"{value:.6g} {unit}"


@app.command()
def models(
    name: Annotated[str | None, typer.Argument(autocompletion=_names("models"), help="Show this model alone.")] = None,
    output: Output = Format.table,
) -> None:
    """List the shipped model configurations, or show one."""
    import pruninfersim as pis

    if name is not None:
        model = pis.models.get(name)
        counts = {key: getattr(model, key) for key in ("parameters", "gemm_parameters", "layer_parameters")}
        facts = {**model.model_dump(), **counts}
        if output is not Format.table:
            show([facts], output, title="")
            return
        typer.echo(printable(listing([(key, str(value)) for key, value in facts.items()], screen_width())))
        return
    if output is not Format.table:
        show(records(pis.models.table().reset_index()), output, title="")
        return
    rows = [
        {
            "name": model.name,
            "family": model.family,
            "parameters [B]": model.parameters / 1e9,
            "layers": model.num_layers,
            "hidden": model.hidden_size,
            "MLP": model.intermediate_size,
            "heads": model.num_heads,
            "KV heads": model.num_kv_heads,
            "head size": model.head_dim,
            "vocabulary": model.vocab_size,
        }
        for model in (pis.models.get(each) for each in pis.models.names())
    ]
    drop = ("vocabulary", "head size", "family")
    show(rows, output, title="Models", caption="`pruninfersim models NAME` shows one.", drop=drop)


@app.command()
def methods(output: Output = Format.table) -> None:
    """List the pruning methods and the papers of each family."""
    import pruninfersim as pis

    rows = [
        {
            "method": name,
            "largest sparsity": most if (most := pis.pruning.largest(method)) < 0.99 else None,
            "needs": "2:4 tensor cores" if getattr(method, "needs", "") else "",
            "also called": ", ".join(pis.pruning.aliases.FAMILIES.get(name, ())),
            "what it does": (method.__doc__ or "").split("\n")[0].replace("`", ""),
        }
        for name, method in {**pis.pruning.EVERY, "quantized": pis.pruning.Quantized}.items()
    ]
    show(rows, output, title="Pruning methods", drop=("needs", "largest sparsity", "what it does"))


@app.command()
def stacks(output: Output = Format.table) -> None:
    """List the software stacks."""
    import pruninfersim as pis

    rows = [{"stack": name, "what it is": _about(pis.stacks.STACKS[name])} for name in pis.stacks.names()]
    show(rows, output, title="Software stacks")


def _about(stack: Any) -> str:
    """Return what a stack is: what is known of an engine, or the first line of the file that describes it."""
    if hasattr(stack, "source"):
        return f"The vendor's kernels in an engine; from {stack.source}."
    own = sys.modules[stack.__module__].__doc__ if hasattr(stack, "__module__") else ""
    return (own or stack.__doc__ or "").split("\n")[0]
