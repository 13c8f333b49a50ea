"""Iterated maps that offer begin / step like a model, so that every distance has a known answer."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn


class Moment(SimpleNamespace):
    """A State of an iterated map."""

    def replace(self, **changes):
        return Moment(**(vars(self) | changes))


class Iterated(nn.Module):
    """h_{k+1} = f(h_k, k) on d-dimensional states; token id i starts at row i of `start`."""

    def __init__(self, f, start, *, readout=None, max_iters=None, dtype=torch.float64):
        super().__init__()
        self.f, self.read = f, readout or (lambda h: h)
        self.max_iters, self.tokenizer = max_iters, None
        self.deepest = SimpleNamespace(k=0)
        self.register_buffer("start", torch.as_tensor(start).to(dtype))

    @property
    def dtype(self):
        return self.start.dtype

    @property
    def device(self):
        return self.start.device

    def as_tokens(self, tokens, attention_mask=None):
        tokens = torch.as_tensor(tokens)
        tokens = tokens[None] if tokens.ndim == 1 else tokens
        return tokens, None if attention_mask is None else torch.as_tensor(attention_mask)

    def to_str_tokens(self, tokens):
        return [f"t{int(i)}" for i in tokens]

    def info(self):
        from abbie_lens.info import ModelInfo

        return ModelInfo("iterated", "map", "0" * 8, 0, 2, str(self.dtype).removeprefix("torch."))

    def ln_final(self, z):
        return z / z.pow(2).mean(-1, keepdim=True).sqrt()

    def begin(self, tokens, n_iters, attention_mask=None):
        from abbie_lens.errors import InputError

        if self.max_iters is not None and n_iters > self.max_iters:
            raise InputError(f"n_iters={n_iters}: at most {self.max_iters}.")
        return self._state(self.start[tokens], 0)

    def step(self, state):
        self.deepest.k = max(self.deepest.k, state.k + 1)
        return self._state(self.f(state.h, state.k).to(self.dtype), state.k + 1)

    def _state(self, h, k):
        return Moment(h=h, z=self.read(h), k=k)


@pytest.fixture(scope="session")
def iterated():
    """`iterated(f, start, …)`: the map f(h, k) as a model."""
    return Iterated


@pytest.fixture(scope="session")
def rotation():
    """`rotation(degrees)`: f(h, k) that turns the first two coordinates."""

    def make(degrees, scale=1.0):
        angle = torch.deg2rad(torch.tensor(float(degrees), dtype=torch.float64))
        c, s = torch.cos(angle), torch.sin(angle)

        def f(h, k):
            x, y = h[..., 0].clone(), h[..., 1].clone()
            turned = torch.stack([c * x - s * y, s * x + c * y], -1).to(h.dtype)
            return scale * torch.cat([turned, h[..., 2:]], -1)

        return f

    return make
