"""A saved model measured again: its files say what was measured, its weights stay."""

import json
import shutil

import pytest

from abbie_lens.errors import CheckpointError, InputError
from abbie_lens.files.weights import file_sha256
from abbie_lens.model import HookedLoopedTransformer
from abbie_lens.training import (
    Evaluation,
    TokenFile,
    TrainConfig,
    evaluate,
    reevaluate,
    train_tokenizer,
    write_tokens,
)


@pytest.fixture
def folder(finished, tmp_path):
    return shutil.copytree(finished / "final", tmp_path / "model")


@pytest.fixture
def heldout(finished):
    return TokenFile.open(finished / "data" / "heldout.bin")


def read(file):
    return json.loads(file.read_text("utf-8"))


def test_the_files_say_what_evaluate_measures(folder, heldout):
    weights = file_sha256(folder / "model.safetensors")
    result = reevaluate(folder, heldout, (1, 3))
    again = evaluate(HookedLoopedTransformer.from_pretrained(folder), heldout, (1, 3))
    assert Evaluation.from_dict(read(folder / "evaluation.json")) == result == again
    assert result.n_tokens == len(heldout.tokens) - len(heldout.documents)
    card = (folder / "README.md").read_text("utf-8")
    assert f"| 3 | {result.nll[1]:.3f} |" in card and f"{result.n_tokens:,} held-out tokens" in card
    assert "\n| 2 |" not in card
    assert file_sha256(folder / "model.safetensors") == weights
    assert not list(folder.glob("*.tmp"))


@pytest.mark.parametrize("windows", [None, 3])
def test_metrics_keep_the_run_and_name_the_windows(folder, heldout, windows):
    before = read(folder / "metrics.json")
    reevaluate(folder, heldout, (2,), max_windows=windows)
    after = read(folder / "metrics.json")
    assert TrainConfig.from_dict(after["training"]).final_windows == windows
    changed = {"final_n_iters": [2], "final_windows": windows}
    assert after == before | {"training": before["training"] | changed}
    assert f'"final_windows": {json.dumps(windows)}' in (folder / "README.md").read_text("utf-8")


def test_the_training_run_itself_wrote_the_same(folder, heldout):
    card, metrics = (folder / "README.md").read_text("utf-8"), read(folder / "metrics.json")
    reevaluate(folder, heldout, (1, 2))
    assert (folder / "README.md").read_text("utf-8") == card
    assert read(folder / "metrics.json") == metrics


def test_text_of_another_tokenizer_is_refused_before_anything_is_written(folder, tmp_path):
    other = train_tokenizer(["another text altogether, with other words"], 260)
    text = write_tokens(["more of the same"], other, tmp_path / "other.bin")
    before = (folder / "README.md").read_text("utf-8")
    with pytest.raises(InputError, match="another tokenizer"):
        reevaluate(folder, text)
    assert (folder / "README.md").read_text("utf-8") == before


@pytest.mark.parametrize("content", [None, "{", "[]", '{"steps": 3}', '{"training": 3}'])
def test_a_model_without_a_training_run_is_refused(folder, heldout, content):
    (folder / "metrics.json").unlink()
    if content is not None:
        (folder / "metrics.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"metrics\.json"):
        reevaluate(folder, heldout)
