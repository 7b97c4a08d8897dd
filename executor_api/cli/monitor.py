"""``executor-api monitor``: what the processes of this machine do to it, for Prometheus."""

from __future__ import annotations

import signal

import click

from executor_api.cli.failures import Refused, tell
from executor_api.cli.serve import WholeNumber
from executor_api.errors import ConfigurationError

_ENDING = {signal.SIGTERM, signal.SIGINT}


@click.command(short_help="Export the processes of this machine to Prometheus.")
@click.option(
    "--port", type=WholeNumber(0, 65535), default=9900, show_default=True, help="TCP port; 0 takes a free one."
)
@click.option(
    "--address", default="127.0.0.1", show_default=True, help="Address to listen on. Nobody is asked who asks."
)
@click.option("--proc", default="/proc", show_default=True, help="Where the proc file system is.")
def monitor(port: int, address: str, proc: str) -> None:
    """Export zombies, D state, pids and descriptors of this machine at /metrics, until SIGTERM or Ctrl-C.

    It costs 1 % of a core at most. /healthz fails when a look is a minute late. Run it as root to see what belongs to
    others: the kernel's function that a process in D state sleeps in, and on Linux before 6.2 its descriptors.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)  # of all threads from here on; `sigwait` takes them
    from executor_api.processes.endpoint import Endpoint  # noqa: PLC0415 - --help does not need it
    from executor_api.processes.gpu import Gpus  # noqa: PLC0415 - the same
    from executor_api.processes.gpu_exporter import GpuMetrics  # noqa: PLC0415 - the same
    from executor_api.processes.monitor import Monitor  # noqa: PLC0415 - the same
    from executor_api.processes.process_table import read_process  # noqa: PLC0415 - the same
    from executor_api.processes.scope import Machine  # noqa: PLC0415 - the same
    from executor_api.telemetry import configure_logging  # noqa: PLC0415 - the same

    configure_logging("auto", "info")
    if read_process(1, proc) is None:
        raise Refused(f"{proc} is no proc file system, it has no process 1; name one with --proc")
    watching, gpus = Monitor(Machine(proc)), GpuMetrics(Gpus(proc))
    try:
        endpoint = Endpoint(address, port, watching, gpus)
    except ConfigurationError as error:
        raise Refused(str(error)) from error
    watching.start()
    gpus.start()
    endpoint.serve_in_background()
    tell(f"exporting the processes of this machine at {endpoint.url}/metrics")
    signal.sigwait(_ENDING)
