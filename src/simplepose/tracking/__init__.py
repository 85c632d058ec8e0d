"""Identities over time: matching, optical flow, smoothing."""
