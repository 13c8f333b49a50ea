"""Collecting: chosen sites of a model over a corpus, by token and iteration, in shards on disk.

made = collect(model, CollectConfig(data="texts/*.jsonl", out="states", sites=("loop.hook_state",)))
for shard in made.shards():
    shard.tensor("loop.hook_state@3"), shard.index      # [token, d_model], one row of the table a token
"""

from .collection import Collection, Shard
from .config import CollectConfig
from .progress import CollectProgress
from .run import collect

__all__ = ["CollectConfig", "CollectProgress", "Collection", "Shard", "collect"]
