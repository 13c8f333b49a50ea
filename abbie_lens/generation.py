"""Sampling from a looped model, with keys and values cached for every (stage, iteration, block)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from abbie_lens.errors import InputError
from abbie_lens.halting import policy as named
from abbie_lens.halting.policy import HaltingPolicy
from abbie_lens.halting.run import require_halting
from abbie_lens.kv_store import kv_rule
from abbie_lens.sampling import Sampling
from abbie_lens.turns import Turns, turns

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
        attention_mask: Tensor | None = None,
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
        """Continue a prompt or a batch of them: the whole text or texts, or tokens [batch, pos] for prompts of ids.

        Prompts of unequal length are padded on the left (`attention_mask` [batch, pos] marks padding of ids with 0); a row
        that has ended is filled with the end token, and draws as it would alone with `seed` + its number.
        `temperature=0` is greedy. `stream=True` returns an iterator over the new pieces (text or ids) of one prompt.
        `return_cache=True` returns (output, IterationCache) with the iteration axis over prompt and new
        tokens alike; `names_filter` says what of it. With `halting` every token stops where the policy says, and later
        ones find its keys as `kv` says; `return_exits=True` adds the iterations of all tokens that were run ([pos] for one
        prompt, else [batch, pos], -1 at padding; the last new one was not). Errors: InputError for arguments out of range
        or more tokens than the context holds, DivergedError for logits that are not finite.
        """
        model = cast("HookedLoopedTransformer", self)
        tokens, mask = to_the_right(*model.as_tokens(prompt, attention_mask))
        if max_new_tokens < 1:
            raise InputError(f"max_new_tokens={max_new_tokens}: expected at least 1.")
        n_prompt, most = tokens.shape[1], tokens.shape[1] + max_new_tokens
        if most > model.cfg.n_ctx:
            raise InputError(
                f"max_new_tokens={max_new_tokens}: {n_prompt} prompt tokens and {max_new_tokens} new ones "
                f"exceed the context of {model.cfg.n_ctx}."
            )
        policy = named(halting) if isinstance(halting, str) else halting
        if policy is not None:
            require_halting(model, policy)
            if return_cache and (use_kv_cache and kv_rule(kv).n_slots is not None):
                raise InputError(
                    f"return_cache=True: with kv={kv!r} one pass over the finished text is another run; use kv='reuse'."
                )
        elif return_exits:
            raise InputError("return_exits=True: only with halting=.")
        if stream and (return_exits or return_cache):
            name = "return_exits" if return_exits else "return_cache"
            raise InputError(f"{name}=True: not together with stream=True.")
        if stream and len(tokens) > 1:
            raise InputError(f"stream=True: one prompt at a time; these are {len(tokens)}.")
        ends = model.tokenizer if stop_at_eos else None
        growing = Growing(
            tokens,
            mask,
            turns(model, model.depth(n_iters), most, policy, kv, use_kv_cache),
            Sampling(temperature, top_k, top_p, seed),
            None if ends is None else ends.eos_token_id,
        )
        pieces = growing.grow(max_new_tokens)
        if stream:
            ids = (int(piece[0]) for piece in pieces)
            return _texts(model, ids) if isinstance(prompt, str) else ids
        for _ in pieces:
            pass
        output = _returned(model, prompt, growing, n_prompt)
        extra: list[Any] = []
        if return_exits:
            exits = growing.turn.exits
            extra.append(exits[0] if len(exits) == 1 else exits)
        if return_cache:
            chosen = {} if policy is None else {"halting": policy, "kv": kv}
            given = dict(n_iters=n_iters, names_filter=names_filter, attention_mask=growing.mask)
            extra.append(model.run_with_cache(growing.whole, **given, **chosen)[1])
        return (output, *extra) if extra else output


def to_the_right(tokens: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Prompts [batch, pos] with their padding moved to the left, and the mask; None where nothing is padded.

    Errors: InputError for a mask of another shape, or a prompt that is all padding.
    """
    if mask is None:
        return tokens, None
    if mask.shape != tokens.shape or not bool(mask.bool().any(1).all()):
        raise InputError(
            f"attention_mask: shape {tuple(mask.shape)}; expected [batch, pos] = {tuple(tokens.shape)}, "
            "with a token in every row."
        )
    if bool(mask.all()):
        return tokens, None
    mask, order = mask.bool().int().sort(dim=1, stable=True)
    first = int(mask.any(0).int().argmax())
    return tokens.gather(1, order)[:, first:], mask[:, first:]


@dataclass(eq=False)
class Growing:
    """Prompts that become longer, token by token, until each has ended."""

    whole: Tensor
    """[batch, pos] padding, prompt and new tokens."""
    mask: Tensor | None
    """[batch, pos] 0 at padding and after a text's end; None: nowhere."""
    turn: Turns
    sampling: Sampling
    eos: int | None
    going_on: list[bool] = field(init=False)

    def grow(self, n_new: int) -> Iterator[Tensor]:
        """Each turn's new ids [batch]; the end token where a text has ended."""
        batch, device = self.whole.shape[0], self.whole.device
        generators = self.sampling.generators(batch, device)
        self.going_on = [True] * batch
        new = self.whole
        for _ in range(n_new):
            with torch.no_grad():
                logits = self.turn(new, self.mask)
                new = torch.stack(
                    [
                        self.sampling(row, generator)
                        if going_on
                        else torch.full((), self.eos or 0, device=device)
                        for row, generator, going_on in zip(
                            logits, generators, self.going_on, strict=True
                        )
                    ]
                )
            self._append(new)
            yield new
            if self.eos is not None:
                ended = (new == self.eos).tolist()
                self.going_on = [a and not b for a, b in zip(self.going_on, ended, strict=True)]
            if not any(self.going_on):
                return
            new = new[:, None]

    def _append(self, new: Tensor) -> None:
        if self.mask is None and not all(self.going_on):
            self.mask = torch.ones_like(self.whole)
        self.whole = torch.cat([self.whole, new[:, None]], dim=1)
        if self.mask is not None:
            real = torch.tensor(self.going_on, device=self.mask.device)[:, None]
            self.mask = torch.cat([self.mask, real.to(self.mask.dtype)], dim=1)


def _returned(model: Any, prompt: Any, growing: Growing, n_prompt: int) -> Any:
    """The texts of prompts that are texts, without padding and tokens put in front; all ids of others."""
    texts = [prompt] if isinstance(prompt, str) else prompt
    if not isinstance(texts[0], str):
        return growing.whole
    continued = []
    for row, text in enumerate(texts):
        first = n_prompt - len(model.tokenizer.encode(text, add_special_tokens=False))
        ids = growing.whole[row, first:]
        if growing.mask is not None:
            ids = ids[growing.mask[row, first:].bool()]
        continued.append(model.to_string(ids))
    return continued[0] if isinstance(prompt, str) else continued


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
