"""What a run would have said had one part of it been another: patching, steering, ablation, noise."""
