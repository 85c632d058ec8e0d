"""What can be wrong with data, as pure functions, and the gate before a command that needs it."""
