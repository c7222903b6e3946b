"""The parts of trainer.evaluate."""
