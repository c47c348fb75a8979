"""The training loop and what it stands on: optimiser, schedules, resume state, processes."""
