"""Analyses of iterative models: each returns a frozen result with a table, a figure and a file."""

from probes import bundle
from probes.comparison import Comparison
from probes.dynamics.attention import Attention, attention
from probes.dynamics.basins import PathIndependence, path_independence
from probes.dynamics.lyapunov import Lyapunov, lyapunov
from probes.dynamics.orbits import Orbits, orbits
from probes.dynamics.per_block import PerBlock, per_block
from probes.dynamics.similarity import Similarity, similarity
from probes.dynamics.solver import FixedPointSearch, find_fixed_points
from probes.dynamics.spectrum import Spectrum, spectrum
from probes.dynamics.upward import Upward, upward
from probes.evaluation import EvalScores, eval_scores
from probes.fixed_points import FixedPoint, fixed_point
from probes.halting.fit_probe import ExitProbeFit, fit_exit_probe
from probes.halting.kv import KVSharing, kv_sharing
from probes.halting.live import LiveRun, live_run
from probes.halting.outcome import HaltingOutcome, HaltingSweep
from probes.halting.replay import Halting, halting
from probes.halting.risk import RiskControl, control_risk
from probes.halting.study_result import HaltingStudy
from probes.lenses import Lens, lens
from probes.linear_probes import LinearProbes, linear
from probes.progress import Cancelled
from probes.result import Result
from probes.splits import Split, split
from probes.task_depth import TaskDepth, task_depth
from probes.task_exits import TaskExits
from probes.trajectory import Trajectories, trajectories

__all__ = [
    "Attention",
    "Cancelled",
    "Comparison",
    "EvalScores",
    "ExitProbeFit",
    "FixedPoint",
    "FixedPointSearch",
    "Halting",
    "HaltingOutcome",
    "HaltingStudy",
    "HaltingSweep",
    "KVSharing",
    "Lens",
    "LinearProbes",
    "LiveRun",
    "Lyapunov",
    "Orbits",
    "PathIndependence",
    "PerBlock",
    "Result",
    "RiskControl",
    "Similarity",
    "Spectrum",
    "Split",
    "TaskDepth",
    "TaskExits",
    "Trajectories",
    "Upward",
    "attention",
    "bundle",
    "control_risk",
    "eval_scores",
    "find_fixed_points",
    "fit_exit_probe",
    "fixed_point",
    "halting",
    "kv_sharing",
    "lens",
    "linear",
    "live_run",
    "lyapunov",
    "orbits",
    "path_independence",
    "per_block",
    "similarity",
    "spectrum",
    "split",
    "task_depth",
    "trajectories",
    "upward",
]
