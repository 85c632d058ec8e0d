"""The heart: from a box to a crop to heatmaps to keypoints. Read this room first."""
