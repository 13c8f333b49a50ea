"""Halting judged: rules replayed on one deep run, over a corpus, with their risk controlled, and learned."""
