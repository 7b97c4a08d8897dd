"""The service: accepts executions, drives each through a sandbox, keeps its record."""
