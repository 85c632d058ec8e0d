"""Weight files of other programs: key maps, TensorFlow checkpoints, known public files."""
