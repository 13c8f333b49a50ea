"""A run from text to a saved model, and what it refuses."""

import json
import math

import pytest
import torch

import abbie_lens
from abbie_lens import loops
from abbie_lens.errors import CheckpointError, ConfigError, DivergedError, ExistsError, InputError
from abbie_lens.training import TrainConfig, checkpoints, metrics, train
from abbie_lens.training.__main__ import main
from abbie_lens.training.trainer import _adamw

QUIET = dict(on_progress=lambda now: None)


def test_a_finished_run_holds_a_model_that_learned(finished, losses):
    curve = losses(finished)
    assert list(curve) == list(range(1, 25))
    assert curve[24] < curve[1] - 0.3
    rows = metrics.read(finished / "metrics.jsonl")
    heldout = [row for row in rows if "heldout_r8" in row]
    assert [row["step"] for row in heldout] == [10, 20, 24]
    model = abbie_lens.HookedLoopedTransformer.from_pretrained(finished / "final")
    assert model.name == "uninterrupted" and model.tokenizer.bos_token_id == 0
    evaluation = json.loads((finished / "final" / "evaluation.json").read_text())
    assert evaluation["n_iters"] == [1, 2] and evaluation["n_documents"] == 3
    assert evaluation["nll"][1] < math.log(280) - 0.3
    card = (finished / "final" / "README.md").read_text()
    assert f"| 2 | {evaluation['nll'][1]:.3f} |" in card
    assert str(finished.parent) not in card and "train.txt" in card
    assert not list(finished.glob("**/*.tmp")) and not list(finished.glob("**/.*"))


def test_weights_saved_are_the_last_checkpoints(finished):
    model = abbie_lens.HookedLoopedTransformer.from_pretrained(finished / "final")
    fresh = model.randomized()
    newest = checkpoints.steps(finished / "checkpoints")[-1]
    optimizer = torch.optim.AdamW(fresh.parameters())
    checkpoints.restore(newest, fresh, optimizer)
    for a, b in zip(model.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(a, b)


def test_progress_is_reported(settings, tmp_path):
    seen = []
    train(settings(tmp_path / "run", train_tokens=8 * 23 * 3), on_progress=seen.append)
    training = [now for now in seen if now.stage == "training"]
    assert [now.step for now in training] == [1, 2, 3, 3]
    assert training[-1].n_steps == 3 and set(training[-1].heldout) == {1, 2, 4, 8}
    assert all(now.tokens_per_second > 0 and math.isfinite(now.loss) for now in training)
    assert seen[-1].stage == "evaluation" and seen[-1].step == seen[-1].n_steps


def test_micro_batches_change_nothing_but_rounding(settings, finished, losses, tmp_path):
    config = settings(tmp_path / "run", train_tokens=24 * 8 * 23, micro_batch_size=2)
    train(config, **QUIET)
    assert losses(tmp_path / "run") == pytest.approx(losses(finished), abs=1e-4)


def test_bfloat16_autocast_trains_float32_weights(settings, finished, losses, tmp_path):
    config = settings(tmp_path / "run", train_tokens=8 * 23 * 4, precision="bfloat16")
    final = train(config, **QUIET)
    half, full = losses(tmp_path / "run")[1], losses(finished)[1]
    assert half == pytest.approx(full, abs=0.05)
    assert half != full, "autocast was not on"
    assert abbie_lens.HookedLoopedTransformer.from_pretrained(final).dtype == torch.float32


def test_matrices_decay_and_vectors_do_not(tiny_model, settings, tmp_path):
    decayed, free = _adamw(tiny_model(), settings(tmp_path)).param_groups
    assert decayed["weight_decay"] == 0.1 and free["weight_decay"] == 0
    assert {p.ndim for p in decayed["params"]} == {2} and {p.ndim for p in free["params"]} == {1}


def test_without_heldout_text_the_end_is_kept_back(settings, tmp_path):
    out = tmp_path / "run"
    train(settings(out, heldout=None, train_tokens=8 * 23), **QUIET)
    n_tokens = json.loads((out / "data" / "train.json").read_text())["n_tokens"]
    evaluation = json.loads((out / "final" / "evaluation.json").read_text())
    assert 0 < evaluation["n_tokens"] <= n_tokens // 100


def test_token_files_of_another_run_serve_as_data(settings, finished, losses, tmp_path):
    data = finished / "data"
    changes = dict(data=str(data / "train.bin"), heldout=str(data / "heldout.bin"))
    train(
        settings(tmp_path / "run", **changes, decay_fraction=0.0, train_tokens=8 * 23 * 2), **QUIET
    )
    assert losses(tmp_path / "run") == {s: losses(finished)[s] for s in (1, 2)}


def test_token_file_of_another_tokenizer(settings, finished, tmp_path):
    data = finished / "data" / "train.bin"
    first = settings(tmp_path / "a", train_tokens=8 * 23, vocab_size=260)
    train(first, **QUIET)
    other = tmp_path / "a" / "data" / "tokenizer.json"
    with pytest.raises(InputError, match="another tokenizer"):
        train(settings(tmp_path / "b", data=str(data), tokenizer=str(other)), **QUIET)


def test_a_run_is_never_overwritten(settings, finished):
    with pytest.raises(ExistsError, match="holds a run"):
        train(settings(finished), **QUIET)


def test_a_run_that_failed_on_its_data_can_be_started_again(settings, corpus, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(InputError, match="names no file"):
        train(settings(out, heldout="nowhere.txt"), **QUIET)
    train(settings(out, data=str(corpus / "heldout.txt"), train_tokens=8 * 23), **QUIET)
    documents = json.loads((out / "data" / "train.json").read_text())["documents"]
    assert len(documents) == 3, "tokens of the first attempt's text were used"


def test_divergence_is_an_error_with_its_step(settings, tmp_path):
    with pytest.raises(DivergedError, match=r"diverged at step \d+"):
        train(settings(tmp_path / "run", learning_rate=1e30, warmup_steps=0), **QUIET)


def test_damaged_checkpoint(settings, tmp_path):
    out = tmp_path / "run"
    train(settings(out, train_tokens=8 * 23 * 2), **QUIET)
    newest = checkpoints.steps(out / "checkpoints")[-1]
    (newest / "model.safetensors").write_bytes(b"not a tensor")
    with pytest.raises(CheckpointError, match="damaged"):
        train(settings(out, train_tokens=8 * 23 * 2, resume=True), **QUIET)


def test_compiled_blocks_train_the_same(settings, finished, losses, tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: compiled.append(module))
    train(settings(tmp_path / "run", compile=True, train_tokens=8 * 23), **QUIET)
    assert [type(module).__name__ for module in compiled] == ["Block"] * 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(precision="half"), "precision='half'"),
        (dict(decay="cosine"), "decay='cosine'"),
        (dict(decay_fraction=1.5), "decay_fraction=1.5"),
        (dict(batch_size=0), "batch_size=0"),
        (dict(learning_rate=-1.0), "learning_rate=-1.0"),
    ],
)
def test_impossible_settings(settings, tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        settings(tmp_path, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(micro_batch_size=3), "divisor of a process's 8 windows"),
        (
            dict(model=dict(d_model=16, n_heads=2, n_ctx=24, d_vocab=100)),
            "tokenizer has 280 tokens",
        ),
        (dict(trackers=("nobody",)), "nobody"),
        (dict(device="abacus"), "device='abacus'"),
    ],
)
def test_settings_that_do_not_fit(settings, tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        train(settings(tmp_path / "run", **changes), **QUIET)


def test_config_file_and_exit_code(settings, tmp_path, monkeypatch, capsys):
    config = settings(tmp_path / "run", data="nowhere.txt")
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    (tmp_path / "c.json").write_text(json.dumps(config.to_dict()))
    monkeypatch.setattr("sys.argv", ["training", "--config", str(tmp_path / "c.json")])
    assert main() == 1
    assert "nowhere.txt" in capsys.readouterr().err
    (tmp_path / "c.json").write_text('{"model": {}, "data": "d", "out": "o", "batchsize": 3}')
    assert main() == 1
    assert "Nearest: batch_size" in capsys.readouterr().err


@pytest.mark.parametrize("family", ["huginn", "adaponder"])
def test_a_family_with_a_recipe_of_its_own_trains_and_is_read_back(settings, tmp_path, family):
    """Huginn draws its depth; AdaPonder refuses more updates than it has gates, which evaluation asks for."""
    loop = loops.family(family)()
    shape = {k: v for k, v in loop.shape(16).items() if k != "n_body_blocks"}
    model = dict(d_model=16, n_heads=2, n_ctx=24, d_mlp=32, **shape, loop={"family": family})
    out = tmp_path / "run"
    final = train(
        settings(out, model=model, train_tokens=8 * 23 * 3, final_n_iters=(2, 4)), **QUIET
    )
    assert abbie_lens.HookedLoopedTransformer.from_pretrained(final).cfg.loop == loop
    row = metrics.read(out / "metrics.jsonl")[-1]
    assert math.isfinite(row["heldout_r2"]) and ("heldout_r4" in row) == (family == "huginn")
    evaluation = json.loads((final / "evaluation.json").read_text())
    assert (evaluation["nll"][1] is None) == (family == "adaponder")
    assert ("| 4 | – | refused |" in (final / "README.md").read_text()) == (family == "adaponder")
