"""Solvers that read a row's text and know nothing of how it was made: answer and needed steps of each question.

`SOLVERS[name](words)` takes the words after `<|endoftext|>` and yields (index of the answer, answer, steps).
"""

from collections import deque
from collections.abc import Callable, Iterator

Answers = Iterator[tuple[int, str, int]]


def clauses(words: list[str]) -> Iterator[tuple[int, list[str]]]:
    """(index of the first word, words without the closing `;`) of each clause."""
    first = 0
    for i, word in enumerate(words):
        if word == ";":
            yield first, words[first:i]
            first = i + 1
    assert first == len(words), "a row ends with a whole clause"


def khop(words: list[str]) -> Answers:
    follows: dict[str, str] = {}
    ways: dict[str, set[str]] = {}
    for first, clause in clauses(words):
        if ">" not in clause:
            source, target = clause
            assert source not in follows
            follows[source] = target
        else:
            start, *hops, _ = clause
            assert set(hops) == {">"}
            goal = start
            for _ in hops:
                goal = follows[goal]
            if not ways:
                for source, target in follows.items():
                    join(ways, source, target)
            yield first + len(clause) - 1, goal, breadth_first(ways, start, goal)
            join(ways, start, goal)


def join(ways: dict[str, set[str]], a: str, b: str) -> None:
    ways.setdefault(a, set()).add(b)
    ways.setdefault(b, set()).add(a)


def breadth_first(ways: dict[str, set[str]], start: str, goal: str) -> int:
    distance, queue = {start: 0}, deque([start])
    while queue:
        here = queue.popleft()
        for there in ways[here] - distance.keys():
            distance[there] = distance[here] + 1
            queue.append(there)
    return distance[goal]


SOLVERS: dict[str, Callable[[list[str]], Answers]] = {"k-hop": khop}
