"""Analyses over a corpus: values by token folded into means, quantiles and intervals, in constant memory."""

from functools import partial

from probes.fixed_points import fixed_point

from .config import AggregateConfig
from .fold import Analyse
from .result import CorpusAnalysis
from .run import aggregate

ANALYSES: dict[str, Analyse] = {
    "fixed_point": partial(fixed_point, control=False),
}
"""What a corpus can be analysed by, by name; controls are the corpus's own."""

__all__ = ["ANALYSES", "AggregateConfig", "CorpusAnalysis", "aggregate"]
