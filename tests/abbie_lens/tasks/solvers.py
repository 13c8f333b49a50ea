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


def modular_sum(words: list[str], modulus: int = 10) -> Answers:
    definitions: dict[str, list[str]] = {}
    asked = set()
    for first, clause in clauses(words):
        if clause[0] != "?":
            name, *definition = clause
            assert name not in definitions
            definitions[name] = definition
        else:
            _, name, _ = clause
            total, steps, passed = 0, 0, set()
            while name is not None:
                *parent, number = definitions[name]
                assert bool(parent) == number.startswith("+")
                total, steps = total + int(number), steps + 1
                passed.add(name)
                name = parent[0] if parent else None
            assert not passed & asked, "an earlier answer lies on the way"
            asked |= passed
            yield first + 2, str(total % modulus), steps


def addition(words: list[str], order: str = "most-first") -> Answers:
    step = -1 if order == "most-first" else 1
    for first, clause in clauses(words):
        question, shown = " ".join(clause).split(" = ")
        a, b = (part.split()[::step] for part in question.split(" + "))
        total = str(int("".join(a[::-1])) + int("".join(b[::-1]))).zfill(len(a) + 1)[::-1]
        pairs = [int(x) + int(y) for x, y in zip(a, b, strict=True)]
        answers = []
        for place, digit in enumerate(total):
            steps, below = 1, place - 1
            while below >= 0 and pairs[below] == 9:
                steps, below = steps + 1, below - 1
            written_before_tells = place < len(pairs) and pairs[place] == 9
            if order == "most-first" and written_before_tells:
                steps = 1
            where = len(total) - 1 - place if order == "most-first" else place
            answers.append((first + len(clause) - len(shown.split()) + where, digit, steps))
        yield from sorted(answers)


def dyck(words: list[str]) -> Answers:
    partner = dict(zip("([{<", ")]}>", strict=True))
    left, rounds, found = list(enumerate(words)), 0, {}
    while left:
        rounds, kept, i = rounds + 1, [], 0
        while i < len(left):
            here, there = left[i], left[i + 1] if i + 1 < len(left) else (-1, "")
            if here[1] in partner and there[1] not in partner and there[1]:
                found[there[0]] = (partner[here[1]], rounds)
                i += 2
            else:
                kept.append(here)
                i += 1
        assert len(kept) < len(left), "not a balanced word"
        left = kept
    for index in sorted(found):
        yield index, *found[index]


def permutations(words: list[str]) -> Answers:
    for first, clause in clauses(words):
        *factors, equals, _ = clause
        assert equals == "="
        images = []
        for point in sorted(factors[0]):
            for factor in factors:
                point = factor[int(point) - 1]
            images.append(point)
        yield first + len(clause) - 1, "".join(images), len(factors)


def tracking(words: list[str]) -> Answers:
    for first, clause in clauses(words):
        contents = [word for word in clause[:-1] if word.isalpha()]
        moved = dict.fromkeys(contents, 0)
        last: dict[str, str] = {}
        *swaps, ask, box, _ = clause[len(contents) :]
        asked = clause[-1]
        assert ask == "?"
        for swap in swaps:
            a, b = (int(word) - 1 for word in swap.split("-"))
            contents[a], contents[b] = contents[b], contents[a]
            for thing in (contents[a], contents[b]):
                moved[thing] += 1
                if thing == asked:
                    assert last.get(thing) != swap, "went straight back"
                last[thing] = swap
        thing = contents[int(box) - 1]
        yield first + len(clause) - 1, thing, moved[thing]


SOLVERS: dict[str, Callable[[list[str]], Answers]] = {
    "k-hop": khop,
    "modular-sum": modular_sum,
    "addition": addition,
    "dyck": dyck,
    "s5": permutations,
    "tracking": tracking,
}
