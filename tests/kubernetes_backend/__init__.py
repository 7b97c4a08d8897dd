"""Tests of the Kubernetes backend against a fake API server, over real HTTP."""
