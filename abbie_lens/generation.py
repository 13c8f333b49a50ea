"""Sampling from a looped model, with keys and values cached for every (stage, iteration, block)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from abbie_lens.errors import DivergedError, InputError
from abbie_lens.halting import policy as named
from abbie_lens.halting.decode import Decoder
from abbie_lens.halting.policy import HaltingPolicy
from abbie_lens.halting.run import halted, require_halting
from abbie_lens.kv_store import kv_rule

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
        halting: HaltingPolicy | str | None = None,
        kv: str = "reuse",
        return_exits: bool = False,
    ) -> Any:
        """Continue one prompt; returns the whole text (or tokens [1, pos] for a token prompt).

        `temperature=0` is greedy. `stream=True` returns an iterator over the new pieces (text or ids).
        `return_cache=True` returns (output, IterationCache) with the iteration axis over prompt and new
        tokens alike; `names_filter` says what of it. With `halting` every token stops where the policy says, and later
        ones find its keys as `kv` says; `return_exits=True` adds the iterations [pos] of all tokens that were run (the
        last new one was not). Errors: InputError for arguments out of range or more tokens than the context holds,
        DivergedError for logits that are not finite.
        """
        model = cast("HookedLoopedTransformer", self)
        tokens, mask = model.as_tokens(prompt)
        if tokens.shape[0] != 1 or mask is not None:
            raise InputError(
                f"prompt: a batch of {tokens.shape[0]}; generate continues one prompt at a time."
            )
        _check(model.cfg.n_ctx, tokens.shape[1], max_new_tokens, temperature, top_k, top_p)
        policy = named(halting) if isinstance(halting, str) else halting
        if policy is not None:
            require_halting(model, policy)
            if return_cache and (use_kv_cache and kv_rule(kv).n_slots is not None):
                raise InputError(
                    f"return_cache=True: with kv={kv!r} one pass over the finished text is another run; use kv='reuse'."
                )
        elif return_exits:
            raise InputError("return_exits=True: only with halting=.")
        turn = _turns(
            model, model.depth(n_iters), tokens.shape[1] + max_new_tokens, policy, kv, use_kv_cache
        )
        pieces = _sample(
            model,
            tokens,
            max_new_tokens,
            turn,
            temperature,
            top_k,
            top_p,
            seed,
            stop_at_eos,
        )
        if stream:
            if return_exits:
                raise InputError("return_exits=True: not together with stream=True.")
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
        extra: list[Any] = [turn.exits] if return_exits else []
        if return_cache:
            chosen = {} if policy is None else {"halting": policy, "kv": kv}
            extra.append(
                model.run_with_cache(whole, n_iters=n_iters, names_filter=names_filter, **chosen)[1]
            )
        return (output, *extra) if extra else output


def _sample(
    model: HookedLoopedTransformer,
    tokens: Tensor,
    n_new: int,
    turn: _Turns,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    seed: int | None,
    stop_at_eos: bool,
) -> Iterator[int]:
    generator = None if seed is None else torch.Generator(device=tokens.device).manual_seed(seed)
    eos = model.tokenizer.eos_token_id if stop_at_eos and model.tokenizer is not None else None
    new = tokens
    for _ in range(n_new):
        with torch.no_grad():
            choice = choose(turn(new), temperature, top_k, top_p, generator)
        token = int(choice)
        yield token
        if token == eos:
            return
        new = choice.view(1, 1)


class _Turns:
    """Logits [d_vocab] after each stretch of new tokens [1, new], by the cache that the loop allows."""

    def __init__(self, model: Any, n_iters: int, decoder: Decoder | None, cached: bool) -> None:
        self.model, self.n_iters, self.decoder = model, n_iters, decoder
        self.past: dict[Any, Any] | None = {} if cached else None

    def __call__(self, new: Tensor) -> Tensor:
        if self.decoder is not None:
            return self.decoder(new)
        logits, self.past = self.model.run_cached(new, self.past, self.n_iters)
        return logits[0, -1]

    @property
    def exits(self) -> Tensor:
        """[pos] iterations of all tokens that were run."""
        assert self.decoder is not None
        return torch.cat(self.decoder.exits, dim=1)[0]


class _Anew(_Turns):
    """The same from the whole text every time, without a cache."""

    def __init__(self, model: Any, n_iters: int, policy: HaltingPolicy | None, kv: str) -> None:
        super().__init__(model, n_iters, None, False)
        self.policy, self.kv, self.whole = policy, kv, None

    def __call__(self, new: Tensor) -> Tensor:
        self.whole = new if self.whole is None else torch.cat([self.whole, new], dim=1)
        if self.policy is None:
            return self.model(self.whole, n_iters=self.n_iters)[0, -1]
        self.run = halted(self.model, self.whole, self.n_iters, self.policy, self.kv)
        return self.run.logits[0, -1]

    @property
    def exits(self) -> Tensor:
        """[pos] iterations of all tokens that were run."""
        return self.run.exits[0]


def _turns(
    model: Any, n_iters: int, n_tokens: int, policy: HaltingPolicy | None, kv: str, cached: bool
) -> _Turns:
    rule = kv_rule(kv)
    # The reference computes and reads out everything anew.
    if not cached or (policy is not None and rule.name == "full"):
        return _Anew(model, n_iters, policy, kv)
    packs = model.packs and model.cfg.loop.packs
    if not packs or model.cfg.prefix_lm or model.training:
        return _Turns(model, n_iters, None, True)
    return _Turns(model, n_iters, Decoder(model, n_iters, n_tokens, policy, rule), True)


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
