"""What a release says of itself, in the places that say it."""

import re
import tomllib


def test_every_place_names_one_version(project_root):
    version = tomllib.loads((project_root / "pyproject.toml").read_text())["project"]["version"]
    cited = re.search(r"^version: (.+)$", (project_root / "CITATION.cff").read_text(), re.M)
    changed = re.search(r"^## (\S+)", (project_root / "CHANGELOG.md").read_text(), re.M)
    assert (cited[1], changed[1]) == (version, version)


def test_every_package_says_that_it_is_typed(project_root):
    for package in ("abbie_lens", "probes", "app"):
        assert (project_root / package / "py.typed").is_file()
