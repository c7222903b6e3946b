"""Classes added to a checkpoint and taken from it, without touching its network."""
