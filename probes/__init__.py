"""Analyses of iterative models: each returns a frozen result with a table, a figure and a file."""

from typing import TYPE_CHECKING, Any

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
from probes.halting_outcome import HaltingOutcome, HaltingSweep
from probes.halting_replay import Halting, halting
from probes.lenses import Lens, lens
from probes.probing.engine import Fits, fit_many
from probes.probing.iterations import WhichIteration, which_iteration
from probes.probing.linear import linear
from probes.probing.overlay import ProbeOverlay
from probes.probing.result import LinearProbes
from probes.probing.stored import FittedProbes
from probes.probing.structural import StructuralFits, fit_structural
from probes.progress import Cancelled
from probes.result import Result
from probes.splits import Split, split
from probes.task_depth import TaskDepth, task_depth
from probes.task_exits import TaskExits
from probes.trajectory import Trajectories, trajectories

if TYPE_CHECKING:
    from probes.probing.estimator import LinearProbe, RidgeProbe

__all__ = [
    "Attention",
    "Cancelled",
    "Comparison",
    "EvalScores",
    "Fits",
    "FittedProbes",
    "FixedPoint",
    "FixedPointSearch",
    "Halting",
    "HaltingOutcome",
    "HaltingSweep",
    "Lens",
    "LinearProbe",
    "LinearProbes",
    "Lyapunov",
    "Orbits",
    "PathIndependence",
    "PerBlock",
    "ProbeOverlay",
    "Result",
    "RidgeProbe",
    "Similarity",
    "Spectrum",
    "Split",
    "StructuralFits",
    "TaskDepth",
    "TaskExits",
    "Trajectories",
    "Upward",
    "WhichIteration",
    "attention",
    "bundle",
    "eval_scores",
    "find_fixed_points",
    "fit_many",
    "fit_structural",
    "fixed_point",
    "halting",
    "lens",
    "linear",
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
    "which_iteration",
]


def __getattr__(name: str) -> Any:
    # Their base classes are scikit-learn's, which takes seconds to import.
    if name in ("LinearProbe", "RidgeProbe"):
        from probes.probing import estimator

        return getattr(estimator, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
