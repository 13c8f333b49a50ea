"""What structural probes say of the states, in a sentence."""

from __future__ import annotations

import numpy as np

from probes.probing.structural_result import StructuralProbes


def said(result: StructuralProbes, site: str | None = None) -> str:
    """Edges found at the last iteration of a site (the first if None) beside the best baseline."""
    s = 0 if site is None else result.sites.index(site)
    k = max(0, int(result.rows[s]) - 1)
    score = result.trained[s, k, 0]
    if not np.isfinite(score[0]):
        return f"The states of {result.sites[s]} are not finite at k = {k}: nothing can be read from them."
    beside = {
        "joining each word to the next": result.chain[0],
        "a random tree": result.random_tree,
        "the token embedding": result.embedding[0],
        "fresh weights": result.untrained[s, k, 0],
        "permuted trees": result.shuffled[s, k, 0],
    }
    if k:
        beside["h_0"] = result.head_output[0]
    defined = {name: value for name, value in beside.items() if np.isfinite(value[0])}
    best = max(defined, key=lambda name: defined[name][0])
    where = f"at k = {k}" if result.rows[s] else f"at {result.sites[s]}"
    apart = score[1] > defined[best][2] or score[2] < defined[best][1]
    how = "above" if score[0] > defined[best][0] else "below"
    verdict = f"{how} the best baseline" if apart else "within the intervals of the best baseline"
    return (
        f"Edges of the tree found {where}: {100 * score[0]:.1f}%, {verdict}"
        f" ({best} {100 * defined[best][0]:.1f}%)."
    )
