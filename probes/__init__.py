"""Analyses of iterative models: each returns a frozen result with a table, a figure and a file."""

from probes import bundle
from probes.attribution import LogitAttribution, logit_attribution
from probes.comparison import Comparison
from probes.concept_probes import ConceptProbes, probe_entry_and_exit
from probes.concept_space import ConceptSpace, entry_and_exit
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
from probes.interventions.skipping import Skipping, skip_iterations
from probes.lenses import Lens, lens
from probes.linear_probes import LinearProbes, linear
from probes.progress import Cancelled
from probes.result import Result
from probes.specialised_iterations import Specialisation, specialisation
from probes.splits import Split, split
from probes.task_depth import TaskDepth, task_depth
from probes.task_exits import TaskExits
from probes.trajectory import Trajectories, trajectories

__all__ = [
    "Attention",
    "Cancelled",
    "Comparison",
    "ConceptProbes",
    "ConceptSpace",
    "EvalScores",
    "FixedPoint",
    "FixedPointSearch",
    "Halting",
    "HaltingOutcome",
    "HaltingSweep",
    "Lens",
    "LinearProbes",
    "LogitAttribution",
    "Lyapunov",
    "Orbits",
    "PathIndependence",
    "PerBlock",
    "Result",
    "Similarity",
    "Skipping",
    "Specialisation",
    "Spectrum",
    "Split",
    "TaskDepth",
    "TaskExits",
    "Trajectories",
    "Upward",
    "attention",
    "bundle",
    "entry_and_exit",
    "eval_scores",
    "find_fixed_points",
    "fixed_point",
    "halting",
    "lens",
    "linear",
    "logit_attribution",
    "lyapunov",
    "orbits",
    "path_independence",
    "per_block",
    "probe_entry_and_exit",
    "similarity",
    "skip_iterations",
    "specialisation",
    "spectrum",
    "split",
    "task_depth",
    "trajectories",
    "upward",
]
