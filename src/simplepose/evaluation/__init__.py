"""Measures as pure functions of arrays, one file a benchmark."""
