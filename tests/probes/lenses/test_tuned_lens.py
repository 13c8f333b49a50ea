"""Tuned lenses: zero is the logit lens, training helps on what was held out, and files say whose they are."""

import json

import numpy as np
import pytest
import torch

import probes
from abbie_lens.errors import CheckpointError, ExistsError, InputError
from probes.lenses import FittedLens, TunedConfig, TunedLens, find, train_tuned
from probes.lenses.places import home
from probes.progress import Cancelled

R = 2
WORDS = ["the", " cat", " sat", " on", " mat,", " and", " rat", " ran;", " then", " ran."]
CONFIG = TunedConfig(n_iters=R, steps=12, window=24, check_every=4, learning_rate=0.02)


@pytest.fixture(scope="module")
def model(tiny_model, tiny_tokenizer):
    return tiny_model(
        tokenizer=tiny_tokenizer, d_vocab=300, initializer_range=0.2, model_name="tiny"
    )


@pytest.fixture(scope="module")
def documents():
    rng = np.random.default_rng(0)
    return ["".join(rng.choice(WORDS, 40)) for _ in range(8)]


@pytest.fixture(scope="module")
def tuned(model, documents):
    return train_tuned(model, documents, CONFIG)


@pytest.fixture(autouse=True)
def user_data(monkeypatch, tmp_path):
    monkeypatch.setenv("ABBIE_LENS_DATA", str(tmp_path / "data"))


def test_zero_is_the_logit_lens(model):
    logit = probes.lens(model, "the cat sat", R, kind="logit", blocks="all")
    zero = TunedLens.zero(model, R, logit.addresses)
    tuned = probes.lens(model, "the cat sat", R, kind="tuned", fitted=zero, blocks="all")
    for name in ("entropy", "kl_to_final", "target_rank", "top_ids"):
        np.testing.assert_array_equal(getattr(tuned, name), getattr(logit, name))
    assert tuned.label == "Tuned lens" and "r = 2" in tuned.fitted


def test_it_reads_x_plus_a_x_plus_b(model):
    generator = torch.Generator().manual_seed(0)
    zero = TunedLens.zero(model, R, ["loop.hook_readout@0"])
    a, b = torch.randn(1, 32, 32, generator=generator), torch.randn(1, 32, generator=generator)
    lens = TunedLens(
        model=zero.model, n_iters=R, addresses=zero.addresses, matrices=a, biases=b, scales=torch.tensor([3.0])
    )  # fmt: skip
    x = torch.randn(2, 5, 32, generator=generator)
    expected = x + torch.einsum("ij,bpj->bpi", a[0], x) + 3 * b[0]
    torch.testing.assert_close(lens.apply("loop.hook_readout@0", x), expected)
    with pytest.raises(InputError, match=r"no row 'loop.hook_readout@7'.*@0"):
        lens.apply("loop.hook_readout@7", x)


def test_training_leads_to_the_final_prediction_on_held_out_documents(model, documents, tuned):
    kl = tuned.metrics["held_out"]["kl"]
    assert (np.array(kl["tuned"]) <= kl["logit"]).all()
    assert kl["tuned"][0] < 0.8 * kl["logit"][0] and kl["tail"][R] < 1e-6
    # The same numbers come out of the lens itself, document by document: the fifth was held out.
    found = probes.lens(model, documents[4], R, kind="tuned", fitted=tuned)
    windows = tuned.metrics["held_out"]["n_tokens"]
    assert found.tokens and windows > 20
    assert np.nanmean(found.kl_to_final[0]) < np.nanmean(
        probes.lens(model, documents[4], R, kind="logit").kl_to_final[0]
    )


def test_a_run_that_was_stopped_ends_as_if_it_had_not_been(model, documents, tuned, tmp_path):
    out = tmp_path / "lens"
    with pytest.raises(Cancelled):
        train_tuned(model, documents, CONFIG, out=out, progress=lambda done, total: done < 6)
    with pytest.raises(ExistsError, match="--resume"):
        train_tuned(model, documents, CONFIG, out=out)
    with pytest.raises(CheckpointError, match="other settings"):
        train_tuned(model, documents, TunedConfig(n_iters=R, steps=9), out=out, resume=True)
    again = train_tuned(model, documents, CONFIG, out=out, resume=True)
    assert torch.equal(again.matrices, tuned.matrices) and torch.equal(again.biases, tuned.biases)
    assert again.metrics == tuned.metrics and [p.name for p in tmp_path.glob("*lens*")] == ["lens"]
    read = FittedLens.load(out)
    assert torch.equal(read.matrices, tuned.matrices) and read.settings == again.settings
    with pytest.raises(ExistsError, match="exists"):
        train_tuned(model, documents, CONFIG, out=out)


def test_it_is_found_again_and_refuses_other_models_and_depths(
    model, tiny_model, tiny_tokenizer, tuned
):
    assert find(model, "tuned", R) is None
    with pytest.raises(InputError, match="abbie-lens lens tuned"):
        probes.lens(model, "the cat", R, kind="tuned")
    folder = home(model, "tuned", R, False)
    tuned.save(folder)
    asked = dict(kind="tuned", seed=1)
    np.testing.assert_array_equal(
        probes.lens(model, "the cat", 1, **asked).entropy,
        probes.lens(model, "the cat", 1, fitted=folder, **asked).entropy,
    )
    with pytest.raises(InputError, match="no tuned lens of 'tiny' with n_iters=3"):
        probes.lens(model, "the cat", R + 1, **asked)
    with pytest.raises(InputError, match="n_iters=3: this tuned lens was made for n_iters=2"):
        probes.lens(model, "the cat", R + 1, fitted=tuned, **asked)
    with pytest.raises(InputError, match="no row 'body"):
        probes.lens(model, "the cat", R, fitted=tuned, blocks=True, **asked)
    other = tiny_model(tokenizer=tiny_tokenizer, d_vocab=300, seed=1, model_name="other")
    with pytest.raises(InputError, match=r"is of 'tiny'.* not of 'other'"):
        probes.lens(other, "the cat", R, fitted=tuned, **asked)
    with pytest.raises(InputError, match="tuned lens, kind='jacobian'"):
        probes.lens(model, "the cat", R, kind="jacobian", fitted=tuned)
    with pytest.raises(InputError, match="a tail lens has no matrices"):
        probes.lens(model, "the cat", R, fitted=tuned)


def test_damaged_files_are_told(model, tuned, tmp_path):
    folder = tuned.save(tmp_path / "lens", dtype=torch.float16)
    assert FittedLens.load(folder).matrices.dtype == torch.float32
    about = folder / "lens.json"
    whole = about.read_text()
    for change in ({"kind": "other"}, {"version": 9}, {"addresses": ["x"]}, {"n_iters": "two"}):
        about.write_text(json.dumps(json.loads(whole) | change))
        with pytest.raises(CheckpointError, match="lens"):
            FittedLens.load(folder)
    about.write_text(whole)
    (folder / "lens.safetensors").write_bytes(b"none")
    with pytest.raises(CheckpointError, match="no whole lens"):
        FittedLens.load(folder)
    with pytest.raises(CheckpointError, match="no such file"):
        FittedLens.load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("change", "message"),
    [({"steps": 0}, "steps=0"), ({"learning_rate": 0.0}, "learning_rate"), ({"blocks": 3}, "blocks=3")],
)  # fmt: skip
def test_bad_settings_are_named(change, message):
    with pytest.raises(InputError, match=message):
        TunedConfig(**change)


def test_too_few_documents_are_told(model):
    with pytest.raises(InputError, match=r"1 document\(s\); at least two"):
        train_tuned(model, ["the cat sat"], CONFIG)


def test_a_lens_knows_its_model_in_another_precision_and_no_other_model(tiny_model, tmp_path):
    model, logit = tiny_model(), "loop.hook_readout@0"
    home(model, "tuned", R, False).parent.mkdir(parents=True)
    TunedLens.zero(model, R, [logit]).save(home(model, "tuned", R, False))
    half = tiny_model().to(torch.bfloat16)
    assert half.info().weight_hash != model.info().weight_hash
    found = find(half, "tuned", R)
    assert found is not None and found.check(half, R) and find(model, "tuned", R) is not None
    with torch.no_grad():
        half.embed.weight[0, 0] += 1
    assert find(half, "tuned", R) is None
    with pytest.raises(InputError, match="make one for this model"):
        found.check(half, R)
    # Made in bfloat16, read in float32: the cast is exact.
    again = tiny_model().to(torch.bfloat16)
    assert TunedLens.zero(again, R, [logit]).check(tiny_model().to(torch.bfloat16).float(), R)


def test_a_bridged_model_in_another_precision_is_known(tiny_tokenizer):
    from abbie_lens.bridged import Loop, LoopedBridge
    from tests.abbie_lens.bridged import decoders

    def bridged(dtype):
        return LoopedBridge(
            decoders.make("llama", vocab_size=len(tiny_tokenizer)).to(dtype),
            Loop(1, 2),
            tiny_tokenizer,
            "tiny",
        )

    made = TunedLens.zero(bridged(torch.float32), R, ["loop.hook_readout@0"])
    assert made.check(bridged(torch.bfloat16), R) is made


def test_the_shipped_lens_serves_its_model_in_bfloat16():
    from abbie_lens import load, zoo

    assert find(load(zoo.DEFAULT, dtype="bfloat16"), "tuned", 2) is not None
