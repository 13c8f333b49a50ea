"""Small English-like text, the same from the same seed."""

import random

WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "and",
    "ran",
    "to",
    "see",
    "rain",
    "fall",
    "over",
    "old",
    "stone",
    "walls",
    "by",
    "night",
]


def text(seed: int, n_words: int) -> str:
    """Lines of nine words."""
    generator = random.Random(seed)
    lines = (" ".join(generator.choices(WORDS, k=9)) + ".\n" for _ in range(n_words // 9))
    return "".join(lines)
