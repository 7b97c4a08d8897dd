"""The endings matrix."""
