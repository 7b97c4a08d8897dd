"""The program inside every sandbox: takes one call, runs it, reports the truth. Standard library only."""
