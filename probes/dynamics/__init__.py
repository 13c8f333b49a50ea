"""Dynamics of the loop: what moves the state, its derivative, its fixed points, and what its end depends on."""
