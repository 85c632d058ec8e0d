"""Loss, schedule, journal and the training loop."""
