"""Parts of the network: norms, attention, MLP, block, embeddings."""
