"""The parts of trainer.train."""
