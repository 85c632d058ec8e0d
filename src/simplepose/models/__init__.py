"""Networks and weight files of other programs: torch, and of this package only what lies below (never `data`)."""
