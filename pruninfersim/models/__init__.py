"""Model configurations, from names and Hugging Face files, and the architectures that turn them into rows."""

from pruninfersim._util.lazy import shows
from pruninfersim.models.config import ModelConfig
from pruninfersim.models.registry import get, names, table

__all__ = ["ModelConfig", "get", "names", "table"]

__dir__ = shows(__all__)
