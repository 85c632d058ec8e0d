"""Drawn people with exact keypoints: the data of the demo and of tests."""
