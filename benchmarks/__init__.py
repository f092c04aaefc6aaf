"""How fast `pruninfersim` answers: ``python -m benchmarks`` prints the table of docs/benchmarks.md."""
