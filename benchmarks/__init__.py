"""Measurements against the project's targets: `python -m benchmarks` writes results.json and RESULTS.md."""
