"""What an import brings with it: nobody waits for a dashboard, figures or fits that they did not ask for."""

import subprocess
import sys

STEPS = """
import sys

def check(step, *absent):
    brought = [name for name in absent if name in sys.modules]
    assert not brought, f"{step} imports {brought}"

import app.cli
check("the command line", "torch", "numpy", "abbie_lens", "probes", "streamlit")
figures, fits = ("plotly", "streamlit"), ("sklearn", "scipy.stats", "lm_eval", "evaluate", "wandb")
import abbie_lens
check("abbie_lens", *figures, *fits)
import abbie_lens.evaluation
check("abbie_lens.evaluation", *figures, *fits)
import probes
check("probes", *figures, *fits)
import app.cli.eval
check("app.cli.eval", *figures, *fits)
"""


def test_imports_bring_nothing_heavy_along(project_root):
    done = subprocess.run(
        [sys.executable, "-c", STEPS], cwd=project_root, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
