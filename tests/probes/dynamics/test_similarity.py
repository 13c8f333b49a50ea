"""CKA against its definition written out, and similarities of maps that are known on paper."""

import itertools
import math

import numpy as np
import pytest
import torch

from abbie_lens.errors import InputError
from abbie_lens.loops import AbbieD
from probes.dynamics.similarity import centred_kernel, similarity
from probes.result import Result

N, D = 7, 5
STARTS = torch.randn(N, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
TOKENS = list(range(N))


def hsic(k, l):  # noqa: E741
    """Unbiased HSIC as the mean over ordered quadruples of distinct samples (Song et al. 2012)."""
    n, total = len(k), 0.0
    for i, j, q, s in itertools.permutations(range(n), 4):
        total += k[i, j] * l[i, j] + k[i, j] * l[q, s] - 2 * k[i, j] * l[i, q]
    return total / math.perm(n, 4)


def test_cka_is_that_of_its_definition_over_quadruples(iterated):
    shift = torch.arange(D) * 10.0
    model = iterated(lambda h, k: torch.tanh(h @ torch.ones(D, D).triu().double()) + shift, STARTS)
    found = similarity(model, TOKENS, 2, control=False)
    x = [STARTS.numpy()]
    for _ in range(2):
        x.append(np.tanh(x[-1] @ np.triu(np.ones((D, D)))) + shift.numpy())
    kernels = [h @ h.T for h in x]
    expected = np.array([[hsic(a, b) for b in kernels] for a in kernels])
    np.testing.assert_allclose(found.hsic, expected, rtol=1e-8, atol=1e-10)
    size = np.sqrt(np.diag(expected))
    np.testing.assert_allclose(found.cka, expected / size[:, None] / size, rtol=1e-8, atol=1e-10)


def test_rescaling_and_rotation_change_no_cka_and_only_rotation_the_cosine(iterated, rotation):
    tripled = similarity(iterated(lambda h, k: 3 * h, STARTS), TOKENS, 5, control=False)
    np.testing.assert_allclose(tripled.cka, 1, rtol=1e-12)
    np.testing.assert_allclose(tripled.cosine, 1, rtol=1e-12)
    flat = STARTS * torch.tensor([1.0, 1, 0, 0, 0])
    turned = similarity(iterated(rotation(40), flat), TOKENS, 5, control=False)
    np.testing.assert_allclose(turned.cka, 1, rtol=1e-9)
    k = np.arange(6)
    expected = np.cos(np.radians(40 * (k[:, None] - k)))
    np.testing.assert_allclose(turned.cosine, expected, atol=1e-9)


def test_states_too_large_to_square_have_the_same_cka(iterated):
    """HSIC is of the fourth power, and 2^2000 is no float64; norms are still to be trusted at 2^500."""
    small = similarity(iterated(lambda h, k: 2 * h, STARTS), TOKENS, 2, control=False)
    large = similarity(iterated(lambda h, k: 2 * h, STARTS * 2.0**500), TOKENS, 2, control=False)
    np.testing.assert_allclose(large.cka, small.cka, rtol=1e-12)


def test_unrelated_states_have_cka_around_zero_with_few_tokens_in_many_dimensions(iterated):
    generator = torch.Generator().manual_seed(1)
    starts = torch.randn(24, 512, generator=generator, dtype=torch.float64)

    def f(h, k):
        return torch.randn(h.shape, generator=generator, dtype=h.dtype)

    found = similarity(iterated(f, starts), list(range(24)), 8, control=False)
    off = found.cka[~np.eye(9, dtype=bool)]
    assert abs(off.mean()) < 0.1
    x, y = (torch.randn(24, 512, generator=generator).numpy() for _ in range(2))
    centred = [a - a.mean(0) for a in (x, y)]
    a, b = (c @ c.T for c in centred)
    assert (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()) > 0.9  # what plain CKA says


def test_a_run_that_diverges_keeps_what_came_before_and_names_the_iteration(iterated):
    def f(h, k):
        h = 2 * h
        if k == 1:
            h[0, 0] = float("nan")
        return h if k < 3 else h * float("inf")

    found = similarity(iterated(f, STARTS), TOKENS, 5, control=False)
    assert found.diverged_at[0, 0] == 2 and (found.diverged_at[0, 1:] == 4).all()
    np.testing.assert_allclose(found.cka[:4, :4], 1, rtol=1e-9)
    assert np.isnan(found.cka[4:]).all() and np.isnan(found.cosine[:, 4:]).all()
    assert found.n_samples.tolist() == [7, 7, 6, 6, 0, 0]


def test_fewer_than_four_tokens_have_a_cosine_and_no_cka(tiny_model):
    found = similarity(tiny_model(AbbieD()), [[1, 2, 3]], 4, control=False)
    assert np.isnan(found.cka).all() and np.isfinite(found.cosine).all()


def test_padding_changes_nothing(tiny_model):
    model = tiny_model(AbbieD())
    ids, mask = [[1, 2, 3, 4, 5, 0, 0]], [[1, 1, 1, 1, 1, 0, 0]]
    padded = similarity(model, ids, 4, attention_mask=mask, control=False)
    alone = similarity(model, [[1, 2, 3, 4, 5]], 4, control=False)
    for name in ("cka", "cosine"):
        np.testing.assert_allclose(padded.matrix(name), alone.matrix(name), rtol=1e-3)
    for value in padded.per_token().values():
        assert np.isnan(value[:, 0, 5:]).all() and np.isfinite(value[:, 0, :5]).all()


def test_many_tokens_are_thinned_evenly(iterated):
    starts = torch.randn(50, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found = similarity(
        iterated(lambda h, k: h.tanh(), starts), list(range(50)), 2, control=False, max_tokens=5
    )
    chosen = np.linspace(0, 49, 5).round().astype(int)
    kernels = [centred_kernel(x.numpy()[chosen])[0] for x in (starts, starts.tanh())]
    a, b = kernels
    expected = (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())
    assert found.cka[0, 1] == pytest.approx(expected)


def test_numbers_by_token_frame_file_control_and_figure(tiny_model):
    ticks = []
    found = similarity(
        tiny_model(AbbieD()), [[1, 2, 3, 4, 5]], 4, seed=5, unit=True,
        progress=lambda done, total: ticks.append((done, total)),
    )  # fmt: skip
    assert ticks[-1] == (10, 10) and found.control is not None and found.unit
    shapes = {name: v.shape for name, v in found.per_token().items()}
    assert shapes == {
        "cosine_next": (4, 1, 5), "cosine_first": (5, 1, 5), "cosine_last": (5, 1, 5)
    }  # fmt: skip
    frame = found.to_frame()
    assert len(frame) == 2 * 25
    cell = frame.query("weights == 'random' and iteration == 1 and other == 3")
    assert cell["cka"].item() == found.control.cka[1, 3]
    again = Result.from_arrays(*found.to_arrays())
    np.testing.assert_array_equal(again.matrix("cka"), found.cka)
    for theme in ("light", "dark"):
        assert len(found.figure(theme=theme).data) == 4


@pytest.mark.parametrize(
    ("options", "named"), [({"max_tokens": 3}, "max_tokens"), ({"n_iters": 0}, "n_iters")]
)
def test_bad_arguments_are_named(tiny_model, options, named):
    with pytest.raises(InputError, match=named):
        similarity(tiny_model(AbbieD()), [[1, 2, 3, 4]], **{"n_iters": 4, **options})
