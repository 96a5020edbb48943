"""Hubbub beside what else there is, measured: `python -m benchmarks` prints tables. Benchmarks print, tests assert."""
