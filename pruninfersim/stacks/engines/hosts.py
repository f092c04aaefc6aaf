"""Hosts: how fast a CPU issues kernels, which is all that eager software feels of it.

One constant per host explains steps of models from 16 to 64 layers within 2.4 % (transformers, eager). An engine's own
work between steps (scheduler, sampling, detokenising) runs on the same CPU: it scales with the same number.
"""

from __future__ import annotations

from dataclasses import dataclass

from pruninfersim._util.doors import doors
from pruninfersim.errors import unknown_name


@doors
@dataclass(frozen=True)
class Host:
    """A CPU, as the software of an engine feels it.

    Attributes
    ----------
    name : str
    issue : float
        Time in which eager PyTorch issues one kernel [s].
    low, high : float
        90 % band of measured over assumed `issue` [1].
    source : str
    """

    name: str
    issue: float
    low: float
    high: float
    source: str

    @property
    def slowness(self) -> float:
        """Time that the host takes for its own work, over that of a typical one [1]."""
        return self.issue / HOSTS["typical"].issue


#: Hosts by name. A known class of host is known to about 15 %: 16 to 23 us among typical servers.
HOSTS = {
    host.name: host
    for host in (
        Host("fast", 10e-6, 0.85, 1.2, "six Qwen3 models of 28 to 64 layers, eager transformers; CPU not stated"),
        Host("typical", 18e-6, 0.87, 1.28, "A100, H100 and H800 step times in papers, eager transformers: 16 to 23 us"),
        Host(
            "slow",
            28e-6,
            0.9,
            1.15,
            "cloud notebook with an L4, 16 and 28 layers, eager transformers (peremartra/llama-glu-expansion-pruning)",
        ),
    )
}
#: Where nobody says which host it is: the typical one, with a band from below the fast to above the slow one.
UNKNOWN = Host("unknown", HOSTS["typical"].issue, 0.5, 32.0 / 18.0, "9 to 32 us: from fast servers to cloud notebooks")


def get(host: str | Host | None) -> Host:
    """Return a host by name; None is one that nobody knows.

    Raises
    ------
    UnknownNameError
        If there is no such host.

    >>> get("slow").issue, get(None).issue
    (2.8e-05, 1.8e-05)
    """
    if isinstance(host, Host):
        return host
    if host is None:
        return UNKNOWN
    if host not in HOSTS:
        raise unknown_name("host", host, HOSTS)
    return HOSTS[host]
