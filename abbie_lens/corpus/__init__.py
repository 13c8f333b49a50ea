"""Text as models read it: documents, their tokens with the characters they stand for, windows of one context."""

from .documents import read_documents
from .encoding import encode
from .windows import Window, batches, cut_windows, padded, window_size

__all__ = ["Window", "batches", "cut_windows", "encode", "padded", "read_documents", "window_size"]
