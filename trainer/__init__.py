"""Trains Marque's checkpoints: data sets, splits, the training loop, evaluation."""
