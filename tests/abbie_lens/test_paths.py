"""Long-lived files go where the environment says."""

from abbie_lens import paths


def test_environment_overrides_the_platforms_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("ABBIE_LENS_DATA", str(tmp_path))
    assert paths.user_data() == tmp_path
    assert paths.runs() == tmp_path / "runs"
    monkeypatch.delenv("ABBIE_LENS_DATA")
    assert paths.user_data().name == "abbie-lens" and paths.user_data().is_absolute()
