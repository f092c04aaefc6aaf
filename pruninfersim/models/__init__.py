"""Model configurations, from names and Hugging Face files, and the architectures that turn them into rows."""

from pruninfersim.models.config import ModelConfig, get, names, table

__all__ = ["ModelConfig", "get", "names", "table"]
