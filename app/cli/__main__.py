"""`python -m app.cli` and `torchrun -m app.cli`: the same command line."""

from app.cli import main

main()
