"""Micro-benchmarks on a CUDA GPU of your own, written as CSV files that `pruninfersim.calibrate` reads.

Planning needs neither torch nor a GPU; only the modules that run something import torch (extra ``measure``). Nothing
else in the package imports this one. The protocol is described in `pruninfersim.measure.protocol`.
"""
