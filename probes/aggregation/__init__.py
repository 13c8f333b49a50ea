"""Analyses over a corpus: values by token folded into means, quantiles and intervals, in constant memory."""

from functools import partial

from probes.dynamics.attention import attention
from probes.dynamics.basins import path_independence
from probes.dynamics.lyapunov import lyapunov
from probes.dynamics.orbits import orbits
from probes.dynamics.per_block import per_block
from probes.dynamics.similarity import similarity
from probes.dynamics.solver import find_fixed_points
from probes.dynamics.spectrum import spectrum
from probes.fixed_points import fixed_point
from probes.interventions.skipping import skip_iterations

from .collected import aggregate_collected
from .config import AggregateConfig
from .fold import Analyse
from .result import CorpusAnalysis
from .run import aggregate
from .sets import DocumentSets

ANALYSES: dict[str, Analyse] = {
    "fixed_point": partial(fixed_point, control=False),
    "distances": partial(fixed_point, control=False, limit_times=0),
    "per_block": partial(per_block, control=False),
    "attention": partial(attention, control=False),
    "orbits": partial(orbits, control=False),
    "similarity": partial(similarity, control=False),
    "skip_iterations": partial(skip_iterations, control=False),
    "spectrum": partial(spectrum, control=False),
    "lyapunov": partial(lyapunov, control=False),
    "path_independence": partial(path_independence, control=False),
    "find_fixed_points": partial(find_fixed_points, control=False),
}
"""What a corpus can be analysed by, by name; controls are the corpus's own. Distances alone cost little more than the
forward passes, skipping iterations some r of them; the last four linearise or repeat the loop, and are for a few thousand tokens."""

__all__ = [
    "ANALYSES",
    "AggregateConfig",
    "CorpusAnalysis",
    "DocumentSets",
    "aggregate",
    "aggregate_collected",
]
