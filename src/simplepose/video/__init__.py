"""Streams in, the batched engine, results out."""
