"""Sandboxes on this machine: the same runner, no cluster."""
