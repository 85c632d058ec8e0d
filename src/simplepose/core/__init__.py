"""The vocabulary that every room speaks; it imports nothing above it."""
