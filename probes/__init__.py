"""Analyses of iterative models: each returns a frozen result with a table, a figure and a file."""

from probes import bundle
from probes.evaluation import EvalScores, eval_scores
from probes.fixed_points import FixedPoint, fixed_point
from probes.halting_outcome import HaltingOutcome, HaltingSweep
from probes.halting_replay import Halting, halting
from probes.lenses import Lens, lens
from probes.linear_probes import LinearProbes, linear
from probes.progress import Cancelled
from probes.result import Result
from probes.trajectory import Trajectories, trajectories

__all__ = [
    "Cancelled",
    "EvalScores",
    "FixedPoint",
    "Halting",
    "HaltingOutcome",
    "HaltingSweep",
    "Lens",
    "LinearProbes",
    "Result",
    "Trajectories",
    "bundle",
    "eval_scores",
    "fixed_point",
    "halting",
    "lens",
    "linear",
    "trajectories",
]
