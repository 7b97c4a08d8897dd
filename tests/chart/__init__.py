"""The Helm chart: what it renders, what it refuses, and a release of it on a cluster."""
