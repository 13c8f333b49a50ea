"""Benchmarks at chosen depths: a looped model behind the interface of EleutherAI's lm-eval.

lm-eval is the extra `[eval]`. Nothing here imports it before an evaluation runs; `adapter` and `tasks`
import it at their top, and are themselves imported inside functions only.
"""

from abbie_lens.evaluation.records import DepthScores, Score
from abbie_lens.evaluation.run import Evaluator

__all__ = ["DepthScores", "Evaluator", "Score"]
