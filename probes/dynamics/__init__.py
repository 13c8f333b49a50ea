"""Dynamics of the loop: its derivative, its fixed points, and what its end depends on, one idea a file."""
