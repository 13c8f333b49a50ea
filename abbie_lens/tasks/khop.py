"""k-hop pointer chasing: follow a map, shown as shuffled pairs, k times.

    a f ; c a ; f c ; …  a > > c ;      f(a) = f, f(f(a)) = c

The map is one cycle through all nodes, so k < n_nodes hops never return and the answer is uniform over
the nodes whatever k is; k is at most half the cycle, or going backwards would be shorter. Each `>` is a
hop: the number of hops is spelt out, because a numeral above the training range would never be trained.

Steps: one per hop. Answers already given are shortcuts (f³(b) is known once f³(a) and b = f(a) are), so
a question is asked only where the shortest way through pairs, in either direction, and earlier answers
is k. Where no start is left for a k, the question is left out. Doubling the map in parallel would need
about log2 k rounds instead of k; the label counts hops.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from abbie_lens.tasks.base import Task, is_int
from abbie_lens.tasks.batch import Questions

NODES = string.ascii_lowercase + string.ascii_uppercase


@dataclass(frozen=True, kw_only=True)
class KHop(Task):
    """Where k hops lead from a node. Steps: hops. Chance: 1 / n_nodes."""

    name: ClassVar[str] = "k-hop"
    asks: ClassVar[str] = "where k hops along a map of shuffled pairs lead"
    steps: ClassVar[str] = "one hop along the map"

    n_nodes: int = 16

    def check(self) -> None:
        """Errors: ConfigError for too many nodes, or hops for which the way back is shorter."""
        self.require(
            is_int(self.n_nodes) and 2 * self.hardest <= self.n_nodes <= len(NODES),
            "n_nodes",
            f"{2 * self.hardest} (twice the most hops) to {len(NODES)}",
        )

    @property
    def words(self) -> tuple[str, ...]:
        """`;`, `>` and the nodes."""
        return (";", ">", *NODES[: self.n_nodes])

    @property
    def chance(self) -> float:
        """Each node is equally often the answer."""
        return 1 / self.n_nodes

    @property
    def opening_length(self) -> int:
        """Three tokens a pair."""
        return 3 * self.n_nodes

    def shortest(self, difficulty: int) -> int:
        """Start, hops, answer, `;`."""
        return difficulty + 3

    def needed(self, words: Sequence[str]) -> list[int]:
        """Hops since the start, once no further hop follows."""
        steps, hops = [0] * len(words), 0
        for i, word in enumerate(words):
            hops = hops + 1 if word == ">" else 0
            if tuple(words[i + 1 : i + 2]) != (">",):
                steps[i] = hops
        return steps

    def draw(
        self, rng: np.random.Generator, difficulty: np.ndarray
    ) -> tuple[np.ndarray, Questions]:
        """The pairs, and the questions that no earlier answer shortens."""
        n, slots = difficulty.shape
        end, hop = self.ids(";>")
        nodes = self.ids(NODES[: self.n_nodes])
        # cycle[i] is the i-th node along the map: f(cycle[i]) = cycle[i + 1].
        cycle = rng.permuted(np.tile(nodes, (n, 1)), axis=1)
        order = rng.permuted(np.tile(np.arange(self.n_nodes), (n, 1)), axis=1)
        pairs = np.full((n, self.n_nodes, 3), end)
        pairs[..., 0] = np.take_along_axis(cycle, order, 1)
        pairs[..., 1] = np.take_along_axis(cycle, (order + 1) % self.n_nodes, 1)

        starts = _starts(rng, difficulty, self.n_nodes)
        goals = np.where(starts < 0, 0, starts + difficulty) % self.n_nodes
        k = difficulty[..., None]
        column = np.arange(self.shortest(int(difficulty.max())))
        tokens = np.full((n, slots, len(column)), hop)
        tokens[..., 0] = np.take_along_axis(cycle, starts, 1)
        answer = column == k + 1
        tokens = np.where(answer, np.take_along_axis(cycle, goals, 1)[..., None], tokens)
        tokens = np.where(column == k + 2, end, tokens)
        present = (column < k + 3) & (starts >= 0)[..., None]
        return pairs.reshape(n, -1), Questions(tokens, present, np.where(answer, k, 0))


def _starts(rng: np.random.Generator, hops: np.ndarray, n_nodes: int) -> np.ndarray:
    """[n, slot] places on the cycle to start from; -1 where every start has a shortcut.

    Keeps the length of the shortest way between all places, where each answered question is one
    more way of length 1.
    """
    n, slots = hops.shape
    place = np.arange(n_nodes)
    around = np.abs(place[:, None] - place)
    distance = np.tile(np.minimum(around, n_nodes - around), (n, 1, 1)).astype(np.int8)
    starts = np.full((n, slots), -1)
    row = np.arange(n)
    for slot in range(slots):
        k = hops[:, slot, None]
        goal = (place + k) % n_nodes
        honest = distance[row[:, None], place, goal] == k
        score = np.where(honest, rng.random((n, n_nodes)), -1.0)
        start = score.argmax(1)
        found = honest.any(1)
        starts[found, slot] = start[found]
        a, b = distance[row, start], distance[row, goal[row, start]]
        way = np.minimum(a[:, :, None] + 1 + b[:, None], b[:, :, None] + 1 + a[:, None])
        distance = np.where(found[:, None, None], np.minimum(distance, way), distance)
    return starts
