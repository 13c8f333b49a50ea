"""Install with the lowest versions that pyproject.toml allows, and run the tests that need little time there.

`python .ci/lowest.py [--torch X] [--keep FOLDER] [arguments of pytest]`. torch is that of constraints.txt unless another is
named: on Linux older ones come with several GB of CUDA.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ("pytest", "hypothesis")
# Files and the hub, bridged decoders (transformers, transformer-lens), figures and bundles, the dashboard.
TESTS = [
    "tests/abbie_lens/files", "tests/abbie_lens/bridged", "tests/probes/bundle",
    "tests/probes/test_result.py", "tests/probes/test_figures.py",
    "tests/app/test_view.py", "tests/app/test_permission.py",
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--torch", help="version of torch  [that of constraints.txt]")
    parser.add_argument("--keep", type=Path, help="environment to make, or to bring up to date")
    asked, tests = parser.parse_known_args()
    with tempfile.TemporaryDirectory(prefix="abbie-lens-lowest-") as folder:
        python = install(asked.keep or Path(folder) / "venv", asked.torch or pinned()["torch"])
        command = [python, "-m", "pytest", "-q", "-m", "not slow and not browser and not gpu"]
        sys.exit(subprocess.run([*command, *(tests or TESTS)], cwd=ROOT).returncode)


def pinned() -> dict[str, str]:
    """The versions of constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==", 1) for line in lines if "==" in line)


def install(venv: Path, torch: str) -> Path:
    """The Python of an environment with the lowest versions that go together, and the checkout's package."""
    python = venv / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    subprocess.run([python, "-m", "pip", "install", "-q", "uv"], check=True)
    uv = [venv / "bin" / "uv", "pip"]
    wanted = [f"torch=={torch}", *(f"{name}=={pinned()[name]}" for name in TOOLS)]
    lowest = ["--resolution", "lowest-direct", "--python", python]
    subprocess.run([*uv, "install", *lowest, "-e", ROOT, *wanted], check=True)
    return python


if __name__ == "__main__":
    main()
