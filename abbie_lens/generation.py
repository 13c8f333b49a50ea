"""Sampling from a looped model, with keys and values cached for every (stage, iteration, block)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from abbie_lens.errors import DivergedError, InputError

if TYPE_CHECKING:
    from abbie_lens.model import HookedLoopedTransformer


class GenerationMixin:
    """`generate` for models with begin, step and readout."""

    @torch.no_grad()
    def generate(
        self,
        prompt: Any,
        max_new_tokens: int = 32,
        *,
        n_iters: int | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        stream: bool = False,
        return_cache: bool = False,
        names_filter: Any = None,
        use_kv_cache: bool = True,
        stop_at_eos: bool = True,
    ) -> Any:
        """Continue one prompt; returns the whole text (or tokens [1, pos] for a token prompt).

        `temperature=0` is greedy. `stream=True` returns an iterator over the new pieces (text or ids).
        `return_cache=True` returns (output, IterationCache) with the iteration axis over prompt and new
        tokens alike; `names_filter` says what of it. Errors: InputError for arguments out of range or more
        tokens than the context holds, DivergedError for logits that are not finite.
        """
        model = cast("HookedLoopedTransformer", self)
        tokens, mask = model.as_tokens(prompt)
        if tokens.shape[0] != 1 or mask is not None:
            raise InputError(
                f"prompt: a batch of {tokens.shape[0]}; generate continues one prompt at a time."
            )
        _check(model.cfg.n_ctx, tokens.shape[1], max_new_tokens, temperature, top_k, top_p)
        pieces = _sample(
            model,
            tokens,
            max_new_tokens,
            n_iters,
            temperature,
            top_k,
            top_p,
            seed,
            use_kv_cache,
            stop_at_eos,
        )
        if stream:
            if return_cache:
                raise InputError("return_cache=True: not together with stream=True.")
            return _texts(model, pieces) if isinstance(prompt, str) else pieces
        whole = torch.cat(
            [tokens, torch.tensor([list(pieces)], dtype=tokens.dtype, device=tokens.device)], dim=1
        )
        output = (
            model.to_string(
                whole[
                    0,
                    tokens.shape[1]
                    - len(model.tokenizer.encode(prompt, add_special_tokens=False)) :,
                ]
            )
            if isinstance(prompt, str)
            else whole
        )
        if not return_cache:
            return output
        return output, model.run_with_cache(whole, n_iters=n_iters, names_filter=names_filter)[1]


def _sample(
    model: HookedLoopedTransformer,
    tokens: Tensor,
    n_new: int,
    n_iters: int | None,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    seed: int | None,
    cached: bool,
    stop_at_eos: bool,
) -> Iterator[int]:
    generator = None if seed is None else torch.Generator(device=tokens.device).manual_seed(seed)
    eos = model.tokenizer.eos_token_id if stop_at_eos and model.tokenizer is not None else None
    kv: dict[Any, Any] | None = {} if cached else None
    new = tokens
    for _ in range(n_new):
        with torch.no_grad():
            logits, kv = model.run_cached(new if cached else tokens, kv, n_iters)
            choice = choose(logits[0, -1], temperature, top_k, top_p, generator)
        token = int(choice)
        yield token
        if token == eos:
            return
        new = choice.view(1, 1)
        tokens = torch.cat([tokens, new], dim=1)


def choose(
    logits: Tensor,
    temperature: float,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """One token id from logits [vocab]: the arg max at temperature 0, else a draw from the kept head of the distribution."""
    if not torch.isfinite(logits).all():
        raise DivergedError(
            "generate: the logits are not finite; try fewer iterations or a wider dtype."
        )
    if temperature == 0:
        return logits.argmax()
    logits = logits.float() / temperature
    if top_k is not None:
        logits = logits.masked_fill(
            logits < logits.topk(min(top_k, logits.numel())).values[-1], float("-inf")
        )
    if top_p is not None:
        ordered, index = logits.softmax(-1).sort(descending=True)
        beyond = ordered.cumsum(-1) - ordered >= top_p  # the token that crosses top_p is kept
        logits = logits.masked_fill(
            torch.zeros_like(beyond).scatter(-1, index, beyond), float("-inf")
        )
    return torch.multinomial(logits.softmax(-1), 1, generator=generator)[0]


def _texts(model: HookedLoopedTransformer, pieces: Iterator[int]) -> Iterator[str]:
    """Pieces of text; a character whose bytes span tokens is held back until it is whole."""
    held: list[int] = []
    for piece in pieces:
        held.append(piece)
        text = model.to_string(held)
        if not text.endswith("\ufffd"):
            yield text
            held = []
    if held:
        yield model.to_string(held)


def _check(
    n_ctx: int,
    n_prompt: int,
    n_new: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
) -> None:
    if n_new < 1:
        raise InputError(f"max_new_tokens={n_new}: expected at least 1.")
    if n_prompt + n_new > n_ctx:
        raise InputError(
            f"max_new_tokens={n_new}: {n_prompt} prompt tokens and {n_new} new ones exceed the context of {n_ctx}."
        )
    if not 0 <= temperature < float("inf"):
        raise InputError(f"temperature={temperature}: expected a finite number >= 0.")
    if top_k is not None and top_k < 1:
        raise InputError(f"top_k={top_k}: expected at least 1.")
    if top_p is not None and not 0 < top_p <= 1:
        raise InputError(f"top_p={top_p}: expected 0 < top_p <= 1.")
