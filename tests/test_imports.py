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
rest = ["plotly", "streamlit", "lm_eval", "evaluate", "wandb"]
import abbie_lens
check("abbie_lens", *rest)
# transformers of some versions bring these by themselves
rest += [name for name in ("sklearn", "scipy.stats") if name not in sys.modules]
import abbie_lens.evaluation
check("abbie_lens.evaluation", *rest)
import probes
check("probes", *rest)
import app.cli.eval
check("app.cli.eval", *rest)
"""


def test_imports_bring_nothing_heavy_along(project_root):
    done = subprocess.run(
        [sys.executable, "-c", STEPS], cwd=project_root, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
