"""Trains Marque's checkpoints. The modules here are commands; the packages are their parts."""
