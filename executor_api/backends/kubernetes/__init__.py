"""Sandboxes as Kubernetes Jobs."""
