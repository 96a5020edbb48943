"""What the hub costs, measured: `python -m benchmarks` prints tables. Benchmarks print, tests assert."""
