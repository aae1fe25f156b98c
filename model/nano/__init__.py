"""lingbot-world-nano: a procedural world, its renderer, and the training of a checkpoint on it."""
