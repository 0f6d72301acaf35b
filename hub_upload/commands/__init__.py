"""The `push` commands."""
