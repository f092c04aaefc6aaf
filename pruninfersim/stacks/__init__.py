"""Which software runs the ops: each stack is a function from a GPU to a cost model."""

from pruninfersim._util.lazy import shows
from pruninfersim.stacks.engines import ENGINES, HOSTS, Engine, Host, engine
from pruninfersim.stacks.fused_dynamic import fused_dynamic
from pruninfersim.stacks.ideal import ideal
from pruninfersim.stacks.paper.stack import paper
from pruninfersim.stacks.parallel import parallel
from pruninfersim.stacks.registry import DEFAULT, STACKS, Stack, get, names
from pruninfersim.stacks.vendor import vendor

__all__ = [
    "DEFAULT",
    "ENGINES",
    "HOSTS",
    "STACKS",
    "Engine",
    "Host",
    "Stack",
    "engine",
    "fused_dynamic",
    "get",
    "ideal",
    "names",
    "paper",
    "parallel",
    "vendor",
]

__dir__ = shows(__all__)
