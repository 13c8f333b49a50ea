"""Install with the lowest versions that pyproject.toml allows, and run the tests that take little time there.

`python .ci/lowest.py [--torch X] [--keep FOLDER] [arguments of pytest]`. torch stays at the version of constraints.txt
unless another is named: on Linux older ones come with several GB of CUDA.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ("pytest", "hypothesis")
# One of each: loops, files, bridged decoders (transformers, transformer-lens), analyses and figures, dashboard.
TESTS = [
    "tests/abbie_lens/loops", "tests/abbie_lens/files", "tests/abbie_lens/bridged",
    "tests/probes/bundle", "tests/probes/figures", "tests/app/test_launch.py",
    "tests/app/test_view.py", "tests/app/test_pages.py",
]  # fmt: skip
LOWEST = re.compile(r"^([A-Za-z0-9_.-]+)(?:\[[^\]]*\])?\s*>=\s*([0-9][0-9A-Za-z.]*)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--torch", help="version of torch  [that of constraints.txt]")
    parser.add_argument("--keep", type=Path, help="environment to make, or to use again")
    asked, tests = parser.parse_known_args()
    versions = lowest(asked.torch or pinned()["torch"])
    with tempfile.TemporaryDirectory(prefix="abbie-lens-lowest-") as folder:
        venv = asked.keep or Path(folder) / "venv"
        python = install(versions, venv, Path(folder) / "lowest.txt")
        command = [python, "-m", "pytest", "-q", "-m", "not slow and not browser and not gpu"]
        sys.exit(subprocess.run([*command, *(tests or TESTS)], cwd=ROOT).returncode)


def pinned() -> dict[str, str]:
    """The versions of constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==", 1) for line in lines if "==" in line)


def lowest(torch: str) -> dict[str, str]:
    """Each dependency's lowest allowed version, but torch's."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = {}
    for requirement in project["dependencies"]:
        match = LOWEST.match(requirement)
        if match is None:
            sys.exit(f"pyproject.toml: {requirement!r} has no lowest version; write NAME>=VERSION.")
        found[match[1]] = match[2]
    return found | {"torch": torch}


def install(versions: dict[str, str], venv: Path, constraints: Path) -> Path:
    """The Python of a fresh environment with these versions and the checkout's package, editable."""
    python = venv / "bin" / "python"
    constraints.write_text("".join(f"{name}=={it}\n" for name, it in versions.items()))
    print("lowest: " + ", ".join(constraints.read_text().split()), flush=True)
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    tools = [f"{name}=={pinned()[name]}" for name in TOOLS]
    command = [python, "-m", "pip", "install", "-q", "-c", constraints, "-e", ROOT, *tools]
    subprocess.run(command, check=True)
    return python


if __name__ == "__main__":
    main()
