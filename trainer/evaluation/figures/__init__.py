"""The figures and tables that trainer.evaluate writes beside a run, from plain arrays."""
