"""``python -m executor_api``."""

from executor_api.cli import main

main(prog_name="executor-api")
