"""Other people's weight files: torch, and of this package only what lies below (never `data`)."""
