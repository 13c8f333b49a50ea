"""Generation as benchmarks ask for it: until a stop string, an end token, or enough tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from abbie_lens.errors import InputError

if TYPE_CHECKING:
    from abbie_lens.model import HookedLoopedTransformer

DEFAULT_NEW_TOKENS = 256
_LENGTH_NAMES = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
_SAMPLING_NAMES = ("temperature", "top_k", "top_p")
_WITHOUT_EFFECT: dict[str, tuple[Any, ...]] = {
    "num_beams": (1,),
    "repetition_penalty": (1, 1.0),
    "use_cache": (True, False),
}
"""Settings that other models read, at the values at which they change nothing."""


@dataclass(frozen=True)
class Ending:
    """When to stop and how to choose tokens; what a task's `generation_kwargs` say."""

    until: tuple[str, ...]
    n_new: int
    temperature: float
    """0 is greedy."""
    top_k: int | None = None
    top_p: float | None = None

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any], n_ctx: int) -> Ending:
        """Read `generation_kwargs`. Without a length: 256 tokens, or half the context if that is less.

        `do_sample` decides; without it a temperature above 0 does. Errors: InputError for a setting that
        is not known, or a length that leaves no room for a prompt.
        """
        given = {name: value for name, value in settings.items() if value is not None}
        until = given.pop("until", ())
        lengths = [given.pop(name) for name in _LENGTH_NAMES if name in given]
        n_new = int(lengths[0]) if lengths else min(DEFAULT_NEW_TOKENS, n_ctx // 2)
        if not 1 <= n_new < n_ctx:
            raise InputError(
                f"max_gen_toks={n_new}: expected 1 to {n_ctx - 1}; the model's context holds {n_ctx}"
                " tokens, prompt included."
            )
        samples = given.pop("do_sample", float(given.get("temperature", 0)) > 0)
        sampling = {name: given.pop(name, None) for name in _SAMPLING_NAMES}
        for name, value in given.items():
            if value not in _WITHOUT_EFFECT.get(name, ()):
                raise InputError(f"generation_kwargs: {name}={value!r} is not supported.")
        temperature = 1.0 if sampling["temperature"] is None else float(sampling["temperature"])
        return cls(
            until=tuple(t for t in ([until] if isinstance(until, str) else until) if t),
            n_new=n_new,
            temperature=temperature if samples else 0.0,
            # 0 is how others write "all tokens"
            top_k=sampling["top_k"] or None if samples else None,
            top_p=sampling["top_p"] if samples else None,
        )


def continue_until(
    model: HookedLoopedTransformer,
    prompt: Sequence[int],
    ending: Ending,
    n_iters: int | None = None,
    *,
    seed: int | None = None,
) -> str:
    """The text that follows `prompt` (token ids), without the stop string that ended it.

    A prompt that leaves no room for `ending.n_new` tokens loses its beginning. `seed` is for sampling.
    """
    kept = list(prompt)[-(model.cfg.n_ctx - ending.n_new) :]
    pieces = model.generate(
        kept,
        ending.n_new,
        n_iters=n_iters,
        temperature=ending.temperature,
        top_k=ending.top_k,
        top_p=ending.top_p,
        seed=seed,
        stream=True,
    )
    ids: list[int] = []
    for piece in pieces:
        if piece == model.tokenizer.eos_token_id:
            break
        ids.append(piece)
        # The whole text every time: a stop string may span tokens, and a token may be half a character.
        if ending.until and any(stop in model.to_string(ids) for stop in ending.until):
            break
    text = model.to_string(ids) if ids else ""
    ends = [at for stop in ending.until if (at := text.find(stop)) >= 0]
    return text[: min(ends)] if ends else text
