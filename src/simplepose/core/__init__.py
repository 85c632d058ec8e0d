"""Vocabulary: errors, files, schema, structures, pictures, devices, drawing. Imports nothing of ours above it."""
