"""What visitors of the dashboard may name: folders below the server's root, hub ids, and models on offer."""

from pathlib import Path

import pytest

from abbie_lens.errors import CheckpointError
from app import permission


@pytest.fixture
def root(tmp_path):
    """`tmp_path/root` with a folder `model`; beside it a folder `secret` with a file."""
    (tmp_path / "root" / "model").mkdir(parents=True)
    (tmp_path / "root-too").mkdir()
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "config.json").write_text("{}")
    return tmp_path / "root"


def test_folders_below_the_root_and_hub_ids_are_named(root):
    full = str(root / "model")
    for asked in ("model", "./model", full, "../root/model", f"{full}/../model/"):
        assert permission.resolve(asked, root) == full
    (root / "link").symlink_to(root / "model")
    assert permission.resolve("link", root) == full
    assert permission.resolve("org/no-folder", root) == "org/no-folder"
    (root / "org").symlink_to(root)  # a folder is nearer than the hub
    assert permission.resolve("org/model", root) == full


def test_what_lies_outside_is_refused_whether_it_is_there_or_not(root):
    outside = root.parent
    (root / "way-out").symlink_to(outside / "secret")
    said = set()
    for asked in ("../secret", "../nothing", "/", str(outside / "root-too"), "~", "way-out"):
        with pytest.raises(CheckpointError, match="outside") as caught:
            permission.resolve(asked, root)
        said.add(str(caught.value).removeprefix(asked))
    assert len(said) == 1


def test_a_link_of_a_model_that_leads_outside_is_refused(root):
    (root / "model" / "config.json").symlink_to(root.parent / "secret" / "config.json")
    with pytest.raises(CheckpointError, match=r"config\.json is a link to what lies outside"):
        permission.resolve("model", root)


@pytest.mark.parametrize("asked", ["no such", "a\0b", "~nobody-at-all/x", "x" * 5000, "a/b/c/d"])
def test_what_is_no_folder_is_one_line(root, asked):
    with pytest.raises(CheckpointError) as caught:
        permission.resolve(asked, root)
    assert "\n" not in str(caught.value) and "folder" in str(caught.value)


def test_a_loop_of_links_is_one_line(root):
    (root / "loop").symlink_to(root / "loop")
    with pytest.raises(CheckpointError, match="folder"):
        permission.resolve("loop", root)


def test_a_visitor_loads_from_below_the_root_alone(dashboard, model_folders):
    one, other = map(str, model_folders)
    assert not dashboard(models=(one,)).sidebar.text_input
    at = dashboard(models=(one,), root=str(model_folders[1]))
    at.sidebar.text_input(key="load_folder").set_value(one)
    at.sidebar.button(key="load_button").click().run()
    assert "outside" in " ".join(text.value for text in at.sidebar.text)
    assert "loaded_models" not in at.session_state
    at.sidebar.text_input(key="load_folder").set_value(other)
    at.sidebar.button(key="load_button").click().run()
    assert not at.exception
    assert at.session_state["loaded_models"] == [other]


def test_a_client_cannot_choose_what_is_not_on_offer(dashboard, model_folders, monkeypatch):
    """What it sends as its choice is a text, which may be any path."""
    from streamlit.testing.v1.element_tree import Selectbox

    from app.view import loading

    asked, watch = [], loading.watch

    def noting(name, *rest):
        asked.append(name)
        return watch(name, *rest)

    monkeypatch.setattr(loading, "watch", noting)
    folder = str(Path(model_folders[1]).parent / "tiny-abbie-c" / "..")
    at = dashboard(query={"r": "1"})
    index = Selectbox.index.fget
    monkeypatch.setattr(
        Selectbox, "index", property(lambda box: -1 if box.key == "model" else index(box))
    )
    at.selectbox(key="model").options.append(folder)
    at.run()
    assert not at.exception
    assert asked and folder not in asked
