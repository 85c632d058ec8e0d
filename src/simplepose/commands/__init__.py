"""Subcommands of `simplepose`: one file each, a thin layer over the library."""
