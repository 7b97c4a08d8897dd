"""Tests of the Kubernetes backend on the cluster that KUBECONFIG points to."""
