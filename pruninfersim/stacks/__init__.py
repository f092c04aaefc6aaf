"""Which software runs the ops: each stack is a function from a GPU to a cost model."""

from pruninfersim.stacks.ideal import ideal
from pruninfersim.stacks.paper.stack import paper
from pruninfersim.stacks.parallel import parallel
from pruninfersim.stacks.registry import DEFAULT, STACKS, Stack, get, names
from pruninfersim.stacks.vendor import vendor

__all__ = ["DEFAULT", "STACKS", "Stack", "get", "ideal", "names", "paper", "parallel", "vendor"]
