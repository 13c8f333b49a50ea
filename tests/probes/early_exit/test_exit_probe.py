"""The exit probe finds a direction that tells, is a rule like any other, and survives its file."""

import numpy as np
import pytest
import torch

import probes
from abbie_lens.errors import CheckpointError, InputError
from abbie_lens.halting import ExitProbe, Observation
from probes.early_exit.fit_probe import _fit, auroc
from tests.corpus import text

R = 3


@pytest.fixture(scope="module")
def model(tiny_model, tiny_tokenizer):
    model = tiny_model(tokenizer=tiny_tokenizer, d_vocab=300)
    with torch.no_grad():  # fresh weights hardly move the state: no answer would change
        for weight in model.body.parameters():
            weight.mul_(6)
    return model


def test_the_fit_finds_a_known_direction():
    generator = np.random.default_rng(0)
    x = generator.normal(5, 3, (2, 2000, 4)).astype(np.float32)
    told = x[..., 0] - 2 * x[..., 2]
    y = generator.random(told.shape) < 1 / (1 + np.exp(-(told - told.mean())))
    weight, bias = _fit(x, y, 1e-4)
    assert weight == pytest.approx([1, 0, -2, 0], abs=0.25)
    # labels are even about the mean, so the probe is undecided there
    assert x.reshape(-1, 4).mean(0) @ weight + bias == pytest.approx(0, abs=0.15)
    assert auroc((x @ weight)[0], y[0]) > 0.9


def test_it_runs_replayed_and_live_and_from_its_file(model, tmp_path):
    fit = probes.fit_exit_probe(model, [text(s, 45) for s in range(6)], R, max_tokens=30)
    assert fit.n_documents == (4, 2) and fit.settled[-1] == 1 and np.isnan(fit.auroc[-1])
    assert len(fit.figure().data) == 3 and len(fit.to_frame()) == R + 1
    policy = fit.policy(threshold=0.5)
    again = ExitProbe.load(policy.save(tmp_path / "probe.safetensors"))
    assert again == policy and torch.equal(again.weight, policy.weight)
    tokens = torch.randint(1, 300, (2, 9))
    replay = probes.halting(model, tokens, R, rules=[again, "kl"])
    x = model.ln_final.plain(model.begin(tokens, R).z)
    by_hand = (x.double() @ policy.weight.double() + policy.bias).sigmoid()
    assert replay.rule("exit_probe")[1][0] == pytest.approx(by_hand.detach().numpy())
    level = float(np.median(replay.rule("exit_probe")[1][1:]))
    live = model(tokens, n_iters=R, halting=policy.replace(threshold=level), kv="full")
    exits = replay.at("exit_probe", level).exit_step
    for b, p in np.ndindex(exits.shape):
        expected = model(tokens, n_iters=int(exits[b, p]))[b, p]
        assert torch.allclose(live[b, p], expected, atol=1e-4)


def test_bad_input_is_one_line(model, tmp_path):
    with pytest.raises(InputError, match="fitted weights"):
        ExitProbe()
    with pytest.raises(InputError, match="finite"):
        ExitProbe(weight=torch.tensor([float("nan")]))
    with pytest.raises(InputError, match="fitted on states of 3"):
        seen = Observation(0, torch.ones(1, 4), torch.ones(1, 4))
        ExitProbe(weight=torch.ones(3)).init(seen)
    with pytest.raises(InputError, match="documents"):
        probes.fit_exit_probe(model, ["one"], R)
    with pytest.raises(InputError, match="n_iters=1"):
        probes.fit_exit_probe(model, ["one", "two"], 1)
    other = tmp_path / "other.safetensors"
    other.write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="exit probe"):
        ExitProbe.load(other)
