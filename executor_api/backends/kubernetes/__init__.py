"""Sandboxes that are Kubernetes Jobs."""
