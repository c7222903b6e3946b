"""What people read about a checkpoint, filled from the JSON files that measured it."""
