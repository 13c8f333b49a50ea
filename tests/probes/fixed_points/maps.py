"""Maps whose distances are known on paper, and how they are measured."""

import torch

from probes.fixed_points import fixed_point

STARTS = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.6, 0.8, 0.0, 0.0], [0.5, -0.5, 0.5, 0.5]])
TOKENS = [0, 1, 2]


def run(model, n_iters=16, **options):
    return fixed_point(model, TOKENS, n_iters, **{"control": False, **options})


def doubling(h, k):
    return 2 * h


def halving_to(target):
    return lambda h, k: (h + target.to(h.dtype)) / 2
