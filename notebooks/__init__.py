"""Notebooks that show the analyses, with the outputs of their last run."""
