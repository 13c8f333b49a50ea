"""Analyses of iterative models: each returns a frozen result with a table, a figure and a file."""

from typing import TYPE_CHECKING, Any

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
from probes.early_exit.fit_probe import ExitProbeFit, fit_exit_probe
from probes.early_exit.kv import KVSharing, kv_sharing
from probes.early_exit.live import LiveRun, live_run
from probes.early_exit.outcome import HaltingOutcome, HaltingSweep
from probes.early_exit.replay import Halting, halting
from probes.early_exit.risk import RiskControl, control_risk
from probes.early_exit.study_result import HaltingStudy
from probes.evaluation import EvalScores, eval_scores
from probes.fixed_points import FixedPoint, fixed_point
from probes.interventions.ablation import Ablation, ablation
from probes.interventions.directions import difference_of_means
from probes.interventions.frozen_patterns import FrozenPatterns, frozen_patterns
from probes.interventions.patching import patching
from probes.interventions.patching_result import Patching
from probes.interventions.recovery import Recovery, recovery
from probes.interventions.skipping import Skipping, skip_iterations
from probes.interventions.steering import Steering, steering
from probes.lenses import Lens, lens
from probes.probing.engine import Fits, fit_many
from probes.probing.iterations import WhichIteration, which_iteration
from probes.probing.linear import linear
from probes.probing.overlay import ProbeOverlay
from probes.probing.result import LinearProbes
from probes.probing.stored import FittedProbes
from probes.probing.structural import StructuralFits, fit_structural
from probes.probing.structural_result import StructuralProbes
from probes.probing.treebank import structural
from probes.progress import Cancelled
from probes.result import Result
from probes.specialised_iterations import Specialisation, specialisation
from probes.splits import Split, split
from probes.task_depth import TaskDepth, task_depth
from probes.task_exits import TaskExits
from probes.trajectory import Trajectories, trajectories

if TYPE_CHECKING:
    from probes.probing.estimator import LinearProbe, RidgeProbe

__all__ = [
    "Ablation",
    "Attention",
    "Cancelled",
    "Comparison",
    "ConceptProbes",
    "ConceptSpace",
    "EvalScores",
    "ExitProbeFit",
    "Fits",
    "FittedProbes",
    "FixedPoint",
    "FixedPointSearch",
    "FrozenPatterns",
    "Halting",
    "HaltingOutcome",
    "HaltingStudy",
    "HaltingSweep",
    "KVSharing",
    "Lens",
    "LinearProbe",
    "LinearProbes",
    "LiveRun",
    "LogitAttribution",
    "Lyapunov",
    "Orbits",
    "Patching",
    "PathIndependence",
    "PerBlock",
    "ProbeOverlay",
    "Recovery",
    "Result",
    "RidgeProbe",
    "RiskControl",
    "Similarity",
    "Skipping",
    "Specialisation",
    "Spectrum",
    "Split",
    "Steering",
    "StructuralFits",
    "StructuralProbes",
    "TaskDepth",
    "TaskExits",
    "Trajectories",
    "Upward",
    "WhichIteration",
    "ablation",
    "attention",
    "bundle",
    "control_risk",
    "difference_of_means",
    "entry_and_exit",
    "eval_scores",
    "find_fixed_points",
    "fit_exit_probe",
    "fit_many",
    "fit_structural",
    "fixed_point",
    "frozen_patterns",
    "halting",
    "kv_sharing",
    "lens",
    "linear",
    "live_run",
    "logit_attribution",
    "lyapunov",
    "orbits",
    "patching",
    "path_independence",
    "per_block",
    "probe_entry_and_exit",
    "recovery",
    "similarity",
    "skip_iterations",
    "specialisation",
    "spectrum",
    "split",
    "steering",
    "structural",
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
