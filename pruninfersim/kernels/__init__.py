"""Kernel models: one file per kind of kernel, physics first, few parameters."""
