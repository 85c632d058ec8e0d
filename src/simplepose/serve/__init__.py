"""Poses over HTTP: one batch for the pictures of several clients, a page to try a network."""
