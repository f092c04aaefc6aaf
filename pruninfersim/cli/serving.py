"""Commands about serving: ``request`` and ``capacity``."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pruninfersim._util.defaults import CONTEXT, LENGTH, NEW_TOKENS
from pruninfersim.cli import values
from pruninfersim.cli.options import MODEL, Format, Output, on_host, one_source
from pruninfersim.cli.program import app
from pruninfersim.cli.show import notes as told
from pruninfersim.cli.show import show
from pruninfersim.cli.speedups import method_name
from pruninfersim.errors import InvalidInputError, ProvenanceWarning

if TYPE_CHECKING:
    import pruninfersim as pis
    from pruninfersim.pruning import Method

Gpu = Annotated[str, typer.Option("--gpu", "--hardware", help="One GPU; see `pruninfersim hardware`.")]
Sparsity = Annotated[
    str | None,
    typer.Option(help="Fraction removed by --method, default 0.5: 25%, or a CSV or JSON file of ratios per layer."),
]
ModelName = Annotated[
    str | None, typer.Option("--model", help=f"A shipped model; see `pruninfersim models`; default: {MODEL}.")
]
Config = Annotated[Path | None, typer.Option(help="Hugging Face config.json to use instead of --model.")]
StackName = Annotated[
    str, typer.Option("--stack", help="Engine, such as vllm or transformers; vendor is kernels only.")
]
HostName = Annotated[str | None, typer.Option("--host", help="Host of an engine: fast, typical or slow.")]
Tp = Annotated[int, typer.Option(help="GPUs over which the model is split (tensor parallelism).")]
Dtype = Annotated[str | None, typer.Option(help="Precision of the linear layers; default: the model's own.")]
MethodNames = Annotated[
    str | None, typer.Option("--method", help="Pruning methods beside the dense model: names, a+b, or all.")
]
#: Columns that a narrow table can do without, the first goes first.
DROPPED = ("low", "high", "J/token", "activations [GiB]", "tokens/s there", "weights [GB]", "KV tokens", "total [s]")


@app.command()
def request(
    model: ModelName = None,
    config: Config = None,
    gpu: Gpu = "h100-sxm",
    stack: StackName = "vllm",
    host: HostName = None,
    batch: Annotated[str, typer.Option(help="Equal requests that start together.")] = "1",
    prompt: Annotated[str, typer.Option(help="Prompt tokens: 2048, 8k.")] = str(CONTEXT),
    new_tokens: Annotated[str, typer.Option("--new-tokens", help="Tokens that come out.")] = str(NEW_TOKENS),
    clients: Annotated[int | None, typer.Option(help="Closed loop of so many clients, in place of --batch.")] = None,
    method: MethodNames = None,
    sparsity: Sparsity = None,
    price: Annotated[float | None, typer.Option(help="Price of a GPU per hour; adds the price of 1M tokens.")] = None,
    dtype: Dtype = None,
    tp: Tp = 1,
    output: Output = Format.table,
) -> None:
    """Predict TTFT, TPOT, tokens/s and memory of a request, dense and pruned."""
    import pruninfersim as pis

    chosen, where = _model(model, config), on_host(stack, host)
    ratio = _ratio(method, sparsity)
    asked: dict[str, Any] = {"model": chosen, "hardware": gpu, "stack": where, "dtype": dtype, "tp": tp}
    given = {"batch": batch, "prompt": prompt, "new_tokens": new_tokens}
    lengths: dict[str, Any] = {name: _count(name, value) for name, value in given.items()} | {"clients": clients}
    length = lengths["prompt"] + lengths["new_tokens"]
    rows: list[dict[str, Any]] = []
    full: dict[str, Any] = {}
    notes: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ProvenanceWarning)
        for name, how in _sides(method, ratio, gpu, dtype, chosen, notes):
            pruned: dict[str, Any] = {} if how is None else {"method": how}
            result = pis.request(**asked, **lengths, **pruned)
            room = pis.capacity(**asked, **pruned, context=length)
            full[name] = result.to_dict() | {"capacity": room.to_dict()}
            rows.append(_row(name, result, room, price, rows[0] if rows else None))
            notes += [note if note.startswith("the interval") else f"{name}: {note}" for note in result.notes]
    if output is Format.json:
        typer.echo(json.dumps(full, indent=2))
        return
    loop = f"batch {lengths['batch']}" if clients is None else f"{clients} clients"
    title = f"Request of {lengths['prompt']} + {lengths['new_tokens']} tokens, {loop}"
    caption = "low, high: 90 % interval of the total. J/token: at the TDP of the GPU, a bound."
    show(
        [{**_asked(chosen, gpu, stack, host, tp), **row} for row in rows],
        output,
        title=title,
        caption=caption,
        drop=DROPPED,
    )
    told((("", note) for note in dict.fromkeys(notes)), 0)


def _row(name: str, result: Any, room: Any, price: float | None, dense: dict[str, Any] | None) -> dict[str, Any]:
    row = {
        "method": name,
        "TTFT [ms]": result.ttft * 1e3,
        "TPOT [ms]": result.tpot * 1e3,
        "total [s]": result.total,
        "low": result.interval[0],
        "high": result.interval[1],
        "tokens/s": result.tokens_per_second,
        "speedup": 1.0 if dense is None else dense["total [s]"] / result.total,
        "J/token": result.joules_per_token,
        "weights [GB]": room.weight_bytes / 1e9,
        "KV tokens": int(room.kv_tokens),
        "largest batch": room.largest_batch,
        "tokens/s there": room.tokens_per_second,
    }
    return row if price is None else row | {"price of 1M": result.price(price)}


@app.command()
def capacity(
    model: ModelName = None,
    config: Config = None,
    gpu: Gpu = "h100-sxm",
    stack: StackName = "vllm",
    host: HostName = None,
    context: Annotated[str, typer.Option(help="Tokens of a sequence, prompt and output: 8192, 8k.")] = str(LENGTH),
    method: MethodNames = None,
    sparsity: Sparsity = None,
    dtype: Dtype = None,
    tp: Tp = 1,
    output: Output = Format.table,
) -> None:
    """Say how many KV tokens and sequences fit on a GPU, dense and pruned, and what a step with them delivers."""
    import pruninfersim as pis

    chosen, where = _model(model, config), on_host(stack, host)
    ratio, length = _ratio(method, sparsity), _count("context", context)
    notes: list[str] = []
    full: dict[str, Any] = {}
    for name, how in _sides(method, ratio, gpu, dtype, chosen, notes):
        pruned: dict[str, Any] = {} if how is None else {"method": how}
        asked: dict[str, Any] = {"model": chosen, "hardware": gpu, "stack": where, "dtype": dtype, "tp": tp}
        full[name] = pis.capacity(**asked, context=length, **pruned)
    if output is Format.json:
        typer.echo(json.dumps({name: room.to_dict() for name, room in full.items()}, indent=2))
        return
    rows = [
        {
            "method": name,
            "weights [GiB]": room.weight_bytes / 2**30,
            "activations [GiB]": room.activation_bytes / 2**30,
            "KV [GiB]": room.kv_bytes / 2**30,
            "KV tokens": int(room.kv_tokens),
            "largest batch": room.largest_batch,
            "tokens/s": room.tokens_per_second,
        }
        for name, room in full.items()
    ]
    title = f"What fits at {length} tokens per sequence"
    show([{**_asked(chosen, gpu, stack, host, tp), **row} for row in rows], output, title=title, drop=DROPPED)
    told((("", note) for note in notes), 0)


def _asked(model: str | pis.ModelConfig, gpu: str, stack: str, host: str | None, tp: int) -> dict[str, Any]:
    where = ({} if host is None else {"host": host}) | ({} if tp == 1 else {"tp": tp})
    return {"model": model if isinstance(model, str) else model.name, "gpu": gpu, "stack": stack} | where


def _ratio(method: str | None, sparsity: str | None) -> Any:
    if method is None and sparsity is not None:
        raise InvalidInputError("--sparsity needs a --method, for instance --method static-width")
    return values.read("--sparsity", [sparsity or "0.5"], values.ratio)[0]


def _count(name: str, text: str) -> int:
    return values.read(f"--{name.replace('_', '-')}", [text], values.count)[0]


def _model(model: str | None, config: Path | None) -> str | pis.ModelConfig:
    import pruninfersim as pis

    one_source(model, config)
    return model or MODEL if config is None else pis.ModelConfig.from_hf(config)


def _sides(
    method: str | None, ratio: Any, gpu: str, dtype: str | None, model: str | pis.ModelConfig, notes: list[str]
) -> Iterator[tuple[str, Method | None]]:
    """Yield the dense model and each method; of all methods, those that cannot do what is asked go to the notes."""
    import pruninfersim as pis

    yield "dense", None
    config = pis.models.get(model)
    names = pis.pruning.names() if method == "all" else values.methods([method] if method else [])
    for chosen in names:
        all_of = pis.pruning.EVERY[chosen] if method == "all" and isinstance(chosen, str) else None
        number = ratio if isinstance(ratio, float) else None
        why = all_of and pis.pruning.unfit(all_of, number, pis.hardware.get(gpu), dtype or config.dtype)
        try:
            how = None if why else pis.pruning.at(chosen, ratio)  # a name needs a sparsity
        except InvalidInputError as error:
            if not all_of:
                raise
            why = str(error)
        if why:
            notes.append(f"{chosen}: left out, {why}")
            continue
        yield chosen if isinstance(chosen, str) else method_name(chosen), how
