"""What was saved is what is loaded: config, weights, dtype, tokenizer; and a folder is written whole or not."""

import json
import math
import os
import signal
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from abbie_lens import HookedLoopedTransformer, LoopedConfig
from abbie_lens.errors import ExistsError, InputError
from abbie_lens.files import pretrained
from abbie_lens.loops import AbbieC, AbbieD, Std

TOKENS = torch.tensor([[1, 5, 9, 2, 7]])


def same_weights(a: HookedLoopedTransformer, b: HookedLoopedTransformer) -> bool:
    left, right = a.state_dict(), b.state_dict()
    return left.keys() == right.keys() and all(
        left[n].dtype == right[n].dtype and torch.equal(left[n], right[n]) for n in left
    )


@pytest.mark.parametrize(
    "loop", [Std(), AbbieC(), *(AbbieD(residual=r) for r in ("between", "skip_first", "literal"))]
)
def test_config_comes_back_equal_for_every_family(tiny_model, tmp_path, loop) -> None:
    model = tiny_model(loop, model_name="mine")
    loaded = HookedLoopedTransformer.from_pretrained(model.save_pretrained(tmp_path / "m"))
    assert loaded.cfg == model.cfg
    assert type(loaded.cfg.loop) is type(loop)
    assert same_weights(loaded, model)


@pytest.mark.parametrize(
    "changes",
    [
        dict(tie_word_embeddings=False),
        dict(normalization_type="LN", gated_mlp=False, act_fn="gelu", use_bias=True),
        dict(positional_embedding_type="standard"),
        dict(n_key_value_heads=2),
        dict(n_head_blocks=0, n_tail_blocks=0),
    ],
)
def test_weights_and_logits_come_back_for_every_shape(tiny_model, tmp_path, changes) -> None:
    model = tiny_model(**changes)
    # biases and norms start as constants: without this, losing them would go unseen
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    loaded = HookedLoopedTransformer.from_pretrained(model.save_pretrained(tmp_path / "m"))
    assert same_weights(loaded, model)
    with torch.no_grad():
        assert torch.equal(loaded(TOKENS, n_iters=3), model(TOKENS, n_iters=3))


def test_config_file_is_plain_json_with_the_loop_tagged(tiny_model, tmp_path) -> None:
    folder = (
        tiny_model(AbbieD(residual="literal")).to(torch.bfloat16).save_pretrained(tmp_path / "m")
    )
    plain = json.loads((folder / "config.json").read_text())
    assert plain["loop"] == {"family": "abbie-d", "residual": "literal"}
    assert plain["dtype"] == "bfloat16"
    assert (plain["model_type"], plain["format_version"]) == ("abbie-lens", 1)


def test_tied_weights_are_stored_once_and_stay_tied(tiny_model, tmp_path) -> None:
    folder = tiny_model(tie_word_embeddings=True).save_pretrained(tmp_path / "m")
    with safe_open(folder / "model.safetensors", framework="pt") as stored:
        assert "embed.weight" in stored.keys()  # noqa: SIM118
        assert "unembed.weight" not in stored.keys()  # noqa: SIM118
    loaded = HookedLoopedTransformer.from_pretrained(folder)
    assert loaded.unembed.weight is loaded.embed.weight


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_model_in_another_precision_comes_back_in_it(tiny_model, tmp_path, dtype) -> None:
    model = tiny_model().to(dtype)
    folder = model.save_pretrained(tmp_path / "m")
    loaded = HookedLoopedTransformer.from_pretrained(folder)
    assert {p.dtype for p in loaded.parameters()} == {dtype}
    assert same_weights(loaded, model)
    asked = HookedLoopedTransformer.from_pretrained(folder, dtype="float32")
    assert {p.dtype for p in asked.parameters()} == {torch.float32}
    assert asked.cfg.dtype == "float32"


def test_weights_stored_narrower_than_the_model_runs(tiny_model, tmp_path) -> None:
    model = tiny_model()
    full = model.save_pretrained(tmp_path / "full") / "model.safetensors"
    folder = model.save_pretrained(tmp_path / "half", dtype="bfloat16")
    assert (folder / "model.safetensors").stat().st_size < 0.6 * full.stat().st_size
    loaded = HookedLoopedTransformer.from_pretrained(folder)
    assert loaded.dtype == torch.float32
    expected = model.embed.weight.to(torch.bfloat16).float()
    assert torch.equal(loaded.embed.weight, expected)
    assert model.dtype == torch.float32, "saving must not change the model"


def test_weights_too_large_for_the_file_are_not_saved_as_infinite(tiny_model, tmp_path) -> None:
    model = tiny_model()
    torch.nn.init.constant_(model.ln_final.weight, 1e5)
    with pytest.raises(InputError, match=r"ln_final\.weight"):
        model.save_pretrained(tmp_path / "m", dtype="float16")
    assert not list(tmp_path.iterdir())
    model.save_pretrained(tmp_path / "m", dtype="bfloat16")


def test_tokenizer_travels_with_the_model(tiny_model, tiny_tokenizer, tmp_path) -> None:
    text = "the cat  ran;\n\ttwo 🐈 <b>&amp;</b> عربي <|endoftext|>"
    model = tiny_model(tokenizer=tiny_tokenizer, d_vocab=300)
    folder = model.save_pretrained(tmp_path / "m")
    loaded = HookedLoopedTransformer.from_pretrained(folder)
    assert loaded.tokenizer(text)["input_ids"] == tiny_tokenizer(text)["input_ids"]
    assert loaded.tokenizer.decode(loaded.tokenizer(text)["input_ids"]) == text
    assert (loaded.tokenizer.bos_token_id, loaded.tokenizer.eos_token_id) == (0, 0)
    assert torch.equal(loaded.to_tokens(text), model.to_tokens(text))
    again = loaded.save_pretrained(tmp_path / "again")
    assert (again / "tokenizer.json").read_text() == (folder / "tokenizer.json").read_text()


def test_slow_tokenizer_is_refused(tiny_model, tmp_path) -> None:
    model = tiny_model(tokenizer=object())
    with pytest.raises(InputError, match="tokenizer"):
        model.save_pretrained(tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_loading_is_in_eval_mode_and_leaves_the_random_numbers_alone(tiny_model, tmp_path) -> None:
    folder = tiny_model(seed=None).save_pretrained(tmp_path / "m")
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    loaded = HookedLoopedTransformer.from_pretrained(folder)
    assert torch.equal(torch.rand(4), expected)
    assert not loaded.training


def test_unnamed_model_takes_its_folders_name(tiny_model, tmp_path) -> None:
    folder = tiny_model().save_pretrained(tmp_path / "my-run")
    assert HookedLoopedTransformer.from_pretrained(folder).name == "my-run"


def test_card_and_metrics_are_written_as_given(tiny_model, tmp_path) -> None:
    model = tiny_model()
    folder = model.save_pretrained(tmp_path / "a", card="# own card\n", metrics={"steps": 3})
    assert (folder / "README.md").read_text() == "# own card\n"
    assert json.loads((folder / "metrics.json").read_text()) == {"steps": 3}
    card = (model.save_pretrained(tmp_path / "b") / "README.md").read_text()
    n_params = sum(math.prod(p.shape) for p in model.parameters())
    assert card.startswith("---\n") and f"{n_params:,}" in card


def test_existing_folders_are_not_overwritten(tiny_model, tmp_path) -> None:
    old, new = tiny_model(seed=1), tiny_model(seed=2)
    folder = old.save_pretrained(tmp_path / "m")
    with pytest.raises(ExistsError, match="overwrite"):
        new.save_pretrained(folder)
    assert same_weights(HookedLoopedTransformer.from_pretrained(folder), old)
    new.save_pretrained(folder, overwrite=True)
    assert same_weights(HookedLoopedTransformer.from_pretrained(folder), new)
    assert [entry.name for entry in tmp_path.iterdir()] == ["m"], "no draft or old copy is left"


def test_overwrite_spares_what_is_not_a_models(tiny_model, tmp_path) -> None:
    thesis = tmp_path / "documents"
    thesis.mkdir()
    (thesis / "thesis.tex").write_text("years of work")
    folder = tiny_model().save_pretrained(tmp_path / "m")
    (folder / "notes.txt").write_text("mine")
    foreign = tmp_path / "llama"
    foreign.mkdir()
    (foreign / "config.json").write_text('{"model_type": "llama"}')
    for place, name in ((thesis, "thesis.tex"), (folder, "notes.txt"), (foreign, "config.json")):
        with pytest.raises(ExistsError, match=name):
            tiny_model().save_pretrained(place, overwrite=True)
        assert (place / name).exists()
    (tmp_path / "file").write_text("x")
    with pytest.raises(ExistsError, match="is a file"):
        tiny_model().save_pretrained(tmp_path / "file")


def test_an_empty_folder_may_be_filled(tiny_model, tmp_path) -> None:
    (tmp_path / "m").mkdir()
    assert (tiny_model().save_pretrained(tmp_path / "m") / "config.json").exists()


def test_a_failed_save_leaves_the_old_model(tiny_model, tmp_path, monkeypatch) -> None:
    old = tiny_model(seed=1)
    folder = old.save_pretrained(tmp_path / "m")

    def full_disk(*_args, **_kwargs):
        raise OSError("no space left on device")

    monkeypatch.setattr(pretrained, "model_card", full_disk)
    with pytest.raises(OSError, match="no space"):
        tiny_model(seed=2).save_pretrained(folder, overwrite=True)
    assert same_weights(HookedLoopedTransformer.from_pretrained(folder), old)
    assert [entry.name for entry in tmp_path.iterdir()] == ["m"]


def test_the_next_save_puts_back_what_a_kill_between_the_renames_left(tiny_model, tmp_path) -> None:
    folder = tiny_model(seed=1).save_pretrained(tmp_path / "m")
    aside = tmp_path / ".m.old.abc"
    aside.mkdir()
    folder.rename(aside / "m")
    with pytest.raises(ExistsError, match="overwrite"):
        tiny_model(seed=2).save_pretrained(folder)
    assert same_weights(HookedLoopedTransformer.from_pretrained(folder), tiny_model(seed=1))
    assert [entry.name for entry in tmp_path.iterdir()] == ["m"]


CHANGES_FILES = (
    *("open", "os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.chmod"),
    *("shutil.rmtree", "shutil.copyfile", "shutil.move"),
)


def save_and_be_killed(model: HookedLoopedTransformer, folder: Path, at_event: int) -> bool:
    """In a process of its own, save over `folder` and die before the n-th step on the file system.

    Returns False if the save came to its end with fewer steps.
    """
    saver = os.fork()
    if saver == 0:
        steps = iter(range(at_event))

        def die_in_time(event: str, _args: tuple) -> None:
            if event in CHANGES_FILES and next(steps, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(die_in_time)
        try:
            model.save_pretrained(folder, overwrite=True)
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitpid(saver, 0)[1]
    assert status in (0, signal.SIGKILL), "saving failed by itself"
    return status != 0


def test_killed_at_any_moment_of_saving_a_whole_model_remains(tiny_model, tmp_path) -> None:
    model = tiny_model()
    folder = model.save_pretrained(tmp_path / "m")
    deaths = 0
    while save_and_be_killed(model, folder, deaths):
        deaths += 1
        # killed between the two renames, the model stands beside its place until the next save
        whole = folder if folder.exists() else next(tmp_path.glob(".m.old.*/m"))
        assert same_weights(HookedLoopedTransformer.from_pretrained(whole), model)
    assert deaths > 5 and not list(tmp_path.glob(".m.old.*"))


def test_the_contract_of_the_config(tiny_config) -> None:
    cfg = tiny_config(AbbieD(residual="skip_first"))
    assert LoopedConfig.from_dict(json.loads(json.dumps(cfg.to_dict()))) == cfg
