"""Looped models made of plain ones: cut out of their blocks, or shared with adapters for what sharing loses."""
