"""Annotations, augmentation, loaders and caches, drawn data."""
