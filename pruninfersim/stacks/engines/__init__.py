"""Serving engines and hosts as named values: what users run, on top of the vendor's kernels."""

from __future__ import annotations

from pruninfersim._util.doors import door
from pruninfersim.errors import InvalidInputError, shown
from pruninfersim.stacks.engines import (
    hosts,
    sglang,
    tensorrt_llm,
    tensorrt_llm_09,
    torch_compile,
    transformers,
    vllm,
    vllm_05,
)
from pruninfersim.stacks.engines.base import Engine
from pruninfersim.stacks.engines.hosts import HOSTS, Host
from pruninfersim.stacks.names import find

#: Name -> engine, on a host that nobody knows.
ENGINES: dict[str, Engine] = {
    module.ENGINE.name: module.ENGINE
    for module in (transformers, torch_compile, vllm, vllm_05, tensorrt_llm, tensorrt_llm_09, sglang)
}

__all__ = ["ENGINES", "HOSTS", "Engine", "Host", "engine"]


@door
def engine(name: str | Engine, host: str | Host | None = None) -> Engine:
    """Return an engine as a stack, for every `stack=` argument.

    Parameters
    ----------
    name : str or Engine
        "transformers", "torch-compile", "vllm", "vllm-0.5", "tensorrt-llm", "tensorrt-llm-0.9", "sglang".
    host : str or Host, optional
        "fast", "typical" or "slow": how fast the CPU issues kernels. Without one it is a typical CPU, with a band that
        reaches from fast to slow ones. `pruninfersim.calibrate_engine` makes one from a measured step.

    Raises
    ------
    UnknownNameError
        If there is no such engine or host.

    >>> from pruninfersim import Setup, Workload
    >>> step = Workload.decode(context=128)
    >>> here = Setup("llama-3.2-1b", "l4", engine("transformers", host="slow"))
    >>> round(here.speedup("static-width", 0.5, step).estimated, 9)  # the GPU waits for the host in both cases
    1.0
    """
    found = ENGINES[find(name, ENGINES, "engine")] if isinstance(name, str) else name
    if not isinstance(found, Engine):
        raise InvalidInputError(f"engine takes a name ({', '.join(ENGINES)}) or an Engine; got {shown(name)}")
    return found if host is None else found.on(hosts.get(host))
