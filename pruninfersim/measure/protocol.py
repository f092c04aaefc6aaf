"""The protocol: how a time is taken. What a file of timings promises its reader.

1. A call is captured many times in a CUDA graph, over copies of its operands in turn; one replay is one repeat. The
   recorded latency is the median over the repeats of replay time / calls, the spread half of what lies between the 5 %
   and 95 % quantiles, as a fraction of the median.
2. Operands are random normal numbers, never zeros. There are as many copies as it takes to move `l2_factor` times the
   L2 cache between two uses of one, at least two, so that operands stream from HBM as in a step of a model (calibrate
   with ``cache="cold"``). Where `max_copies` is not enough (operands of some kB), the file's column `copies` says so;
   such operands are in L2 in a step of a model too.
3. Before timing, the result of the call is compared with a float32 reference on the same operands:
   ``norm(result - reference) / norm(reference)`` must be below the tolerance, and NaN never is.
4. Warm-up: at least `warmup_replays` replays and `warmup` seconds, so that clocks have risen.
5. Clocks, temperature, power and the reasons for throttling are read from nvidia-smi while the repeats run. Settings
   are read, never changed.
6. Where clocks were held down for heat, or the spread is above `unsteady`, the GPU rests for `rest` seconds and the
   shape is taken again, up to `attempts` times in all. The steadiest attempt that was not too hot counts; if all were,
   the shape fails. A power cap is part of a GPU at work: it is recorded, and the time counts.
7. A shape that fails (out of memory, unsupported, wrong result, too hot) is recorded as failed with its reason.
   The run goes on.
8. Eight-bit GEMMs get activations of 8 bit: to quantise them is another kernel. Elementwise ops are one kernel each.
9. The ``eager`` launches are the exception to 1: a stream of launches is timed as it is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pruninfersim.errors import InvalidInputError

#: Fewest repeats that give a median and a spread worth recording.
LEAST_REPEATS = 20


@dataclass(frozen=True)
class Protocol:
    """The numbers of the protocol.

    Attributes
    ----------
    repeats : int
        Timed replays, at least 20.
    warmup_replays : int
    warmup : float
        Shortest warm-up [s].
    graph : float
        Calls are added to a graph until it takes this long, so that its own launch does not count [s].
    max_calls : int
        Most calls in a graph.
    l2_factor : float
        Bytes moved between two uses of a copy, in L2 sizes [1].
    max_copies : int
    tolerance : float
        Largest relative error of a result [1]; two roundings to bf16 give 0.003.
    unsteady : float
        Spread above which a time is taken again [1].
    rest : float
        Pause before that [s].
    attempts : int

    >>> Protocol(repeats=5)
    Traceback (most recent call last):
    pruninfersim.errors.InvalidInputError: repeats must be at least 20, for a median and a spread; got 5
    """

    repeats: int = 25
    warmup_replays: int = 3
    warmup: float = 0.02
    graph: float = 2e-3
    max_calls: int = 2000
    l2_factor: float = 2.0
    max_copies: int = 512
    tolerance: float = 0.02
    unsteady: float = 0.1
    rest: float = 3.0
    attempts: int = 3

    def __post_init__(self) -> None:
        if self.repeats < LEAST_REPEATS:
            raise InvalidInputError(
                f"repeats must be at least {LEAST_REPEATS}, for a median and a spread; got {self.repeats}"
            )

    def copies(self, traffic: float, l2_size: float) -> int:
        """Return how many copies of the operands of a call that moves `traffic` bytes are cycled.

        >>> Protocol().copies(25e6, l2_size=50e6)
        5
        """
        wanted = -(-self.l2_factor * l2_size // max(traffic, 1.0)) + 1
        return int(min(max(wanted, 2), self.max_copies))

    def calls(self, seconds: float, copies: int) -> int:
        """Return how many calls of `seconds` each a graph holds: whole rounds over the copies.

        >>> Protocol().calls(1e-3, copies=5), Protocol().calls(1e-5, copies=2)
        (5, 200)
        """
        rounds = -(-self.graph // (max(seconds, 1e-7) * copies))
        return int(copies * max(1, min(rounds, self.max_calls // copies)))


def digest(protocol: Protocol, environment: Mapping[str, Any]) -> str:
    """Return a hash of what has to be equal for timings to belong together: this code, the protocol, the software.

    Parameters
    ----------
    protocol : Protocol
    environment : mapping
        GPU, driver and versions.
    """
    total = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        total.update(path.name.encode() + b"\0" + path.read_bytes().replace(b"\r\n", b"\n"))
    total.update(json.dumps([asdict(protocol), dict(environment)], sort_keys=True).encode())
    return total.hexdigest()[:16]
