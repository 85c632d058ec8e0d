"""Networks and their weight files: torch, and nothing else of this package but the errors."""
