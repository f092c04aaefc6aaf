"""What a Hugging Face ``config.json`` says about how its weights, activations and KV cache are stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pruninfersim.errors import InvalidInputError, shown

#: Experts of a mixture, as modules.
EXPERTS = ("*.experts",)
#: Targets of compressed-tensors that mean all linear layers.
CLASSES = ("Linear", "FusedMoE", "MoE")
#: Quantisation of modelopt by its algorithm: weights, activations, group of scales.
ALGORITHMS: dict[str, tuple[str, str, int | None]] = {
    "FP8": ("fp8", "fp8", None),
    "NVFP4": ("nvfp4", "nvfp4", None),
    "W4A16_AWQ": ("int4", "bf16", 128),
    "W8A16": ("int8", "bf16", None),
}


@dataclass(frozen=True)
class Storage:
    """How a checkpoint is stored, in the words of `pruninfersim.pruning.Quantized`.

    Attributes
    ----------
    weights, activations : str
        Of the linear layers; "bf16" where nothing is said.
    group : int, optional
        Weights that share a scale.
    quantise : {"fused", "per-token", "dynamic"}
        How the activations get narrow: "fused" with static scales or where they stay in 16 bit.
    kv : str, optional
        KV cache, if the file says.
    pattern : str
        Structured sparsity of the linear layers: "2:4" or "".
    ignored : tuple of str
        Modules that stay in 16 bit: names, globs, or regular expressions behind "re:".
    only : tuple of str
        Modules that are narrow, in the same words; empty for all linear layers.
    note : str
        What was mapped to something near, for a reader; empty if nothing was.
    """

    weights: str = "bf16"
    activations: str = "bf16"
    group: int | None = None
    quantise: str = "fused"
    kv: str | None = None
    pattern: str = ""
    ignored: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    note: str = ""

    @property
    def dtype(self) -> str:
        """Format of the linear layers, a key of `pruninfersim.hardware.precision.PRECISIONS`.

        >>> Storage("int4", "bf16", 128).dtype, Storage("fp8-block", "fp8").dtype, Storage().dtype
        ('int4_wo', 'fp8_block', 'bf16')
        """
        narrow = {"int4": "int4_wo", "int8": "int8" if self.activations == "int8" else "int8_wo"}
        return narrow.get(self.weights, self.weights.replace("-", "_"))

    @property
    def remarks(self) -> str:
        """What a reader of the model should know about its storage, as the end of a sentence; empty if nothing."""
        said = []
        if self.dtype != "bf16":
            said.append(f"{'experts' if self.only == EXPERTS else 'linear layers'} stored as {self.dtype}")
        if self.kv:
            said.append(f"KV cache in {self.kv}")
        if self.pattern:
            said.append(f"weights pruned to {self.pattern}, see pruning.SemiStructured")
        return "; ".join([*said, self.note] if self.note else said)


def storage_of(config: Mapping[str, Any]) -> Storage:
    """Return how a checkpoint is stored: its ``quantization_config``, ``sparsity_config`` and ``kv_cache_scheme``.

    Parameters
    ----------
    config : mapping
        The content of a ``config.json``, or its language part.

    Raises
    ------
    InvalidInputError
        If the file names a method or a format that has no kernel model here; the message says which.

    >>> storage_of({"quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 128}}).weights
    'int4'
    >>> storage_of({}).weights
    'bf16'
    """
    given = dict(config.get("quantization_config") or config.get("compression_config") or {})
    if config.get("sparsity_config"):
        given.setdefault("sparsity_config", config["sparsity_config"])
    if not given:
        return Storage()
    default = "modelopt" if "quant_algo" in given else "compressed-tensors"
    method = str(given.get("quant_method") or default).replace("_", "-")
    if method not in READERS:
        raise InvalidInputError(
            f"quantization_config of method {shown(method)} is not read; known are {', '.join(sorted(READERS))}"
        )
    return READERS[method](given)


def _fp8(given: Mapping[str, Any]) -> Storage:
    """Read the fp8 of transformers: blocks of 128 x 128 or per tensor, static or dynamic scales."""
    block = given.get("weight_block_size")
    if block is not None and list(block) != [128, 128]:
        raise InvalidInputError(f"fp8 blocks of {block} have no kernel model; blocks of [128, 128] do")
    dynamic = given.get("activation_scheme", "dynamic") != "static"
    how = "per-token" if block is not None else "dynamic" if dynamic else "fused"
    return Storage("fp8-block" if block is not None else "fp8", "fp8", quantise=how, ignored=_ignored(given))


def _integer(given: Mapping[str, Any]) -> Storage:
    """Read AWQ and GPTQ: integer weights with 16-bit scales, activations in 16 bit."""
    bits = int(given.get("bits") or given.get("w_bit") or 4)
    if bits not in (4, 8):
        raise InvalidInputError(f"weights of {bits} bit have no kernel model; 4 and 8 bit do")
    group = int(given.get("group_size") or given.get("q_group_size") or 128)
    rules = given.get("dynamic") or {}
    other = [rule for rule in rules if not rule.startswith("-:")]
    if other:
        raise InvalidInputError(f"layers of another format ({other[0]}) have no kernel model; layers left out (-:) do")
    left_out = tuple(f"re:.*{rule.removeprefix('-:')}" for rule in rules)
    return Storage(f"int{bits}", "bf16", None if group < 0 else group, ignored=(*_ignored(given), *left_out))


def _bitsandbytes(given: Mapping[str, Any]) -> Storage:
    """Read bitsandbytes: nf4 is priced as int4 in groups of 64, 8-bit mixed decomposition is refused."""
    if not given.get("load_in_4bit"):
        raise InvalidInputError(
            "bitsandbytes in 8 bit splits each GEMM at run time into two (LLM.int8(), arXiv 2208.07339), which has no "
            "kernel model; without its quantization_config the file is read as 16 bit"
        )
    note = "bitsandbytes nf4 is priced as int4 with a scale per 64 weights; its kernels are slower in prefill"
    return Storage("int4", "bf16", 64, ignored=_ignored(given), note=note)


def _mxfp4(given: Mapping[str, Any]) -> Storage:
    """Read mxfp4, which `transformers` and the engines know for the experts of gpt-oss only."""
    return Storage("mxfp4", "bf16", ignored=_ignored(given), only=EXPERTS)


def _groups(given: Mapping[str, Any]) -> Storage:
    """Read compressed-tensors and modelopt: groups of layers with schemes of weights and activations."""
    kv = _kv(given.get("kv_cache_scheme") or given.get("kv_cache_quant_algo"))
    sparse = given.get("sparsity_config") or {}
    pattern = "2:4" if str(sparse.get("sparsity_structure")) == "2:4" else ""
    groups = list((given.get("config_groups") or {}).values())
    if not groups:
        algorithm = str(given.get("quant_algo") or "").upper()
        if algorithm and algorithm not in ALGORITHMS:
            raise InvalidInputError(
                f"quant_algo {shown(algorithm)} has no kernel model; {', '.join(ALGORITHMS)} have one"
            )
        weights, activations, group = ALGORITHMS.get(algorithm, ("bf16", "bf16", None))
        return Storage(weights, activations, group, kv=kv, pattern=pattern, ignored=_ignored(given))
    if len(groups) > 1 and any(_scheme(group) != _scheme(groups[0]) for group in groups):
        raise InvalidInputError("quantization_config has several config_groups that differ; layers of one format only")
    weights, activations, group, how = _scheme(groups[0])
    targets = tuple(target for each in groups for target in each.get("targets") or () if target not in CLASSES)
    return Storage(weights, activations, group, how, kv, pattern, _ignored(given), targets)


def _scheme(group: Mapping[str, Any]) -> tuple[str, str, int | None, str]:
    """Return weights, activations, group and way to quantise of one group of layers."""
    weights, inputs = group.get("weights") or {}, group.get("input_activations")
    bits, kind = int(weights.get("num_bits", 8)), str(weights.get("type", "int"))
    size = weights.get("group_size")
    if (kind, bits, size, inputs) == ("float", 4, 32, None):
        return "mxfp4", "bf16", None, "fused"
    if kind == "int" and inputs is None:
        if bits not in (4, 8):
            raise InvalidInputError(f"weights of {bits} bit have no kernel model; 4 and 8 bit do")
        return f"int{bits}", "bf16", int(size) if size and int(size) > 0 else None, "fused"
    names = {("float", 8): "fp8", ("float", 4): "nvfp4", ("int", 8): "int8"}
    form = names.get((kind, bits))
    other = names.get((str(inputs.get("type")), int(inputs["num_bits"]))) if inputs is not None else None
    if inputs is None or form is None or other != form:
        raise InvalidInputError(
            f"{kind} weights of {bits} bit have no kernel model with activations of "
            f"{16 if inputs is None else inputs['num_bits']} bit"
        )
    dynamic = inputs.get("dynamic") not in (False, None)
    token = str(inputs.get("strategy")) in ("token", "group", "tensor_group") or form == "nvfp4"
    block = str(weights.get("strategy")) == "block"
    how = "fused" if not dynamic else "per-token" if token else "dynamic"
    return "fp8-block" if block and form == "fp8" else form, form, None, how


def _kv(scheme: Any) -> str | None:
    """Return the format of the KV cache: a name, or a scheme of bits and type."""
    if not scheme:
        return None
    if isinstance(scheme, str):
        name = scheme.lower()
    else:
        name = {("float", 8): "fp8", ("int", 8): "int8"}.get((str(scheme.get("type")), int(scheme["num_bits"])), "")
    if name not in ("fp8", "int8"):
        raise InvalidInputError(f"a KV cache of {shown(scheme)} has no kernel model; fp8 and int8 do")
    return name


def _ignored(given: Mapping[str, Any]) -> tuple[str, ...]:
    keys = ("ignore", "exclude_modules", "modules_to_not_convert", "ignored_layers")
    return tuple(dict.fromkeys(str(name) for key in keys for name in given.get(key) or ()))


#: Method of quantisation, as files name it -> who reads what the file says.
READERS = {
    "fp8": _fp8,
    "fbgemm-fp8": _fp8,
    "awq": _integer,
    "gptq": _integer,
    "bitsandbytes": _bitsandbytes,
    "mxfp4": _mxfp4,
    "compressed-tensors": _groups,
    "modelopt": _groups,
}
