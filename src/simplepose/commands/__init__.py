"""Subcommands of `simplepose`: one file each (`evaluate_results` is the second half of `evaluate`), a thin layer over the library."""
