"""Analyses of iterative models: each returns a frozen result with a table, a figure and a file."""

from probes.result import Result

__all__ = ["Result"]
