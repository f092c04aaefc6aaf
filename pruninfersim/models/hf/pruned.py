"""Checkpoints whose layers differ because they were pruned: per-layer sizes, removed sub-layers, linear stand-ins.

`block_configs` is what NVIDIA's Puzzle (Nemotron-NAS, ModelOpt's Puzzletron) writes, `per_layer_config` what
`transformers` writes for heterogeneous models; some tools write plain lists of sizes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pruninfersim.errors import InvalidInputError, shown
from pruninfersim.models.architectures.attention import Attention
from pruninfersim.models.architectures.layered import Layer
from pruninfersim.models.architectures.mlp import MLP, Linear
from pruninfersim.models.hf.keys import Keys

#: Widths that come from a factor are rounded up to a multiple of this (DeciLM: ``_ffn_mult_to_intermediate_size``).
MULTIPLE = 256
#: Keys of a block that the layers take over; all others must hold nothing.
ATTENTION_KEYS = {"no_op", "replace_with_linear", "n_heads_in_group", "num_key_value_heads", "window_length"}
FFN_KEYS = {"no_op", "replace_with_linear", "ffn_mult", "intermediate_size", "gated", "hidden_act"}


def differing_layers(keys: Keys, attention: Attention, ffn: MLP | None, layers: int) -> tuple[Layer, ...] | None:
    """Return the layers of a pruned decoder, or None if all are alike.

    Parameters
    ----------
    keys : Keys
    attention, ffn : Attention, MLP or None
        What a layer is where nothing else is said.
    layers : int

    Raises
    ------
    InvalidInputError
        If a block says something that is not supported, or there are not as many as layers.
    """
    blocks = keys.get("block_configs")
    if blocks is not None:
        _check_length("block_configs", blocks, layers)
        return tuple(_puzzle(block, index, attention, ffn, keys["hidden_size"]) for index, block in enumerate(blocks))
    listed = keys.get("per_layer_config")
    if listed is not None:
        return _per_layer(listed, attention, ffn, layers)
    return _lists(keys, attention, ffn, layers)


def _check_length(key: str, values: Any, layers: int) -> None:
    if not isinstance(values, list) or len(values) != layers:
        raise InvalidInputError(f"{key} must hold one entry per layer: {layers}")


def _only(values: Mapping[str, Any], known: set[str], where: str) -> None:
    for key, value in values.items():
        if key not in known and value:
            raise InvalidInputError(f"{where}: {key} ({shown(value)}) is not supported")


def _layer(mixer: Attention | Linear | None, ffn: MLP | Linear | None) -> Layer:
    """Return a layer; the norm of a removed sub-layer goes with it."""
    return Layer(mixer=mixer, ffn=ffn, norms=(mixer is not None) + (ffn is not None))


def _puzzle(block: Any, index: int, attention: Attention, ffn: MLP | None, hidden: int) -> Layer:
    where = f"block_configs[{index}]"
    if not isinstance(block, Mapping):
        raise InvalidInputError(f"{where} must be an object with attention and ffn")
    _only(block, {"attention", "ffn"}, where)
    mixing, feeding = block.get("attention") or {}, block.get("ffn") or {}
    _only(mixing, ATTENTION_KEYS, f"{where}.attention")
    _only(feeding, FFN_KEYS, f"{where}.ffn")
    mixer: Attention | Linear | None = attention
    if mixing.get("no_op"):
        mixer = None
    elif mixing.get("replace_with_linear"):
        mixer = Linear(block="attention")
    else:
        group = mixing.get("n_heads_in_group")
        kv = mixing.get("num_key_value_heads") or (attention.heads // group if group else attention.kv_heads)
        mixer = Attention(**{**attention.model_dump(), "kv_heads": kv, "window": mixing.get("window_length")})
    made: MLP | Linear | None
    if feeding.get("no_op"):
        made = None
    elif feeding.get("replace_with_linear"):
        made = Linear(block="mlp")
    else:
        factor = feeding.get("ffn_mult")
        width = feeding.get("intermediate_size")
        if width is None and factor is not None:
            width = -(-int(2 * factor * hidden / 3) // MULTIPLE) * MULTIPLE
        if width is None and ffn is None:
            raise InvalidInputError(f"{where}.ffn gives neither ffn_mult nor intermediate_size")
        like = ffn or MLP(inter=1)
        made = MLP(**{**like.model_dump(), "inter": width or like.inter})
    return _layer(mixer, made)


def _per_layer(listed: Any, attention: Attention, ffn: MLP | None, layers: int) -> tuple[Layer, ...]:
    if not isinstance(listed, Mapping):
        raise InvalidInputError("per_layer_config must be an object: layer number -> what differs there")
    own: dict[int, Mapping[str, Any]] = {}
    for key, values in listed.items():
        if not str(key).isdecimal() or not int(key) < layers or not isinstance(values, Mapping):
            raise InvalidInputError(f"per_layer_config holds {shown(key)}; the layers are 0 to {layers - 1}")
        _only(values, {"skip", *_SIZES}, f"per_layer_config[{key}]")
        own[int(key)] = values
    return tuple(_changed(attention, ffn, own.get(i, {}), f"per_layer_config[{i}]") for i in range(layers))


#: Key of a size -> field of `Attention` or of `MLP`.
_SIZES = {
    "num_attention_heads": "heads",
    "num_key_value_heads": "kv_heads",
    "head_dim": "head_dim",
    "sliding_window": "window",
    "intermediate_size": "inter",
}


def _changed(attention: Attention, ffn: MLP | None, values: Mapping[str, Any], where: str) -> Layer:
    skip = values.get("skip") or []
    skip = [skip] if isinstance(skip, str) else skip
    strange = [part for part in skip if part not in ("attention", "mlp", "ffn")]
    if strange:
        raise InvalidInputError(f"{where}: skip holds {shown(strange[0])}; attention and mlp are supported")
    new = {_SIZES[key]: value for key, value in values.items() if key in _SIZES}
    width = new.pop("inter", ffn.inter if ffn else None)
    if ffn is None or width is None:
        raise InvalidInputError(f"{where}: intermediate_size is missing")
    mixer = None if "attention" in skip else Attention(**{**attention.model_dump(), **new})
    return _layer(mixer, None if {"mlp", "ffn"} & set(skip) else MLP(**{**ffn.model_dump(), "inter": width}))


def _lists(keys: Keys, attention: Attention, ffn: MLP | None, layers: int) -> tuple[Layer, ...] | None:
    """Return the layers where sizes are lists, one entry per layer; 0 means that the sub-layer is gone."""
    found = {key: keys.get(key) for key in _SIZES if isinstance(keys.get(key), list)}
    if not found:
        return None
    for key, values in found.items():
        _check_length(key, values, layers)
    out = []
    for index in range(layers):
        own: dict[str, Any] = {key: values[index] for key, values in found.items()}
        gone = [
            part
            for part, sizes in (
                ("attention", ("num_attention_heads", "num_key_value_heads")),
                ("mlp", ("intermediate_size",)),
            )
            if any(own.get(size) == 0 for size in sizes)
        ]
        kept = {key: value for key, value in own.items() if value}
        out.append(_changed(attention, ffn or MLP(inter=1), {**kept, "skip": gone}, f"layer {index}"))
    return tuple(out)
