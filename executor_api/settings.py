"""Every setting of the service: one frozen value, made once by the command line and passed down as an argument.

A field's metadata is the only description of it: the command line's flags, their ``EXECUTOR_*`` variables and the
table in the documentation are made from here.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

MIB = 1024 * 1024


def default_data_dir(environ: Mapping[str, str]) -> Path:
    """Where records live unless told otherwise: the user's state directory (XDG)."""
    base = environ.get("XDG_STATE_HOME")
    home = Path(environ.get("HOME") or tempfile.gettempdir())
    return (Path(base) if base else home / ".local" / "state") / "executor-api"


def _setting(default: Any, help_text: str, *, choices: tuple[str, ...] = (), secret: bool = False) -> Any:
    return field(default=default, metadata={"help": help_text, "choices": choices, "secret": secret})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How one service process runs. Durations in seconds, sizes in bytes."""

    backend: str = _setting(
        "local", "Where sandboxes live: this machine, or a cluster.", choices=("local", "kubernetes")
    )
    host: str = _setting("127.0.0.1", "Address to listen on. Beyond loopback callers must show who they are.")
    port: int = _setting(8000, "TCP port to listen on; 0 takes a free one.")
    metrics_port: int = _setting(
        0, "TCP port of the same address for `/metrics` and the probes alone, which asks nobody who calls; 0: none."
    )
    api_key: str = _setting(
        "",
        "Key that clients send as `Authorization: Bearer KEY`: one for all. Without any way to tell callers the "
        "service answers to this machine only, by loopback and by name.",
        secret=True,
    )
    api_keys: str = _setting(
        "",
        "YAML file of keys, each of a tenant, made by `executor-api keys`; it is read again when it changes.",
    )
    oidc_issuer: str = _setting(
        "", "URL of an OpenID Connect issuer whose tokens (JWT) tell who calls; needs --oidc-audience."
    )
    oidc_audience: str = _setting("", "Name of this service at the issuer: `aud` of its tokens must hold it.")
    oidc_tenant_claim: str = _setting(
        "tenant", "Claim that names the tenant of a token's caller; a token without it is refused."
    )
    oidc_default_scopes: str = _setting(
        "",
        "What a token may do that names none of `executor:execute`, `executor:read`, `executor:admin`: some of "
        "`execute,read,admin`; empty: nothing.",
    )
    token_review_audience: str = _setting(
        "",
        "Audience of tokens of Kubernetes service accounts that tell who calls: the API server is asked (TokenReview), "
        "the tenant is the account's namespace; empty: off.",
    )
    tenants: str = _setting(
        "", "YAML file of what each tenant may take: calls a second, at once, waiting, templates; empty: no limits."
    )
    no_auth: bool = _setting(
        default=False, help_text="Listen beyond loopback without asking who calls: whoever reaches the port runs code."
    )
    namespace: str = _setting("default", "Kubernetes namespace of the sandboxes.")
    owner_lease: str = _setting(
        "",
        "Lease in that namespace that owns all that the service makes there: once it is deleted, the cluster deletes "
        "the rest; empty: nothing does.",
    )
    image: str = _setting("executor:dev", "Image of sandboxes whose template names none.")
    kubeconfig: str = _setting(
        "", "Path of a kubeconfig; empty: in-cluster credentials, else $KUBECONFIG, else ~/.kube/config."
    )
    context: str = _setting("", "Context of the kubeconfig; empty: its current one.")
    dispatch: str = _setting(
        "auto",
        "How runners are reached: pod IP, the API server's proxy, or whichever works.",
        choices=("auto", "pod-ip", "proxy"),
    )
    require_network_policy: bool = _setting(
        default=False,
        help_text="Be ready only while network policies are known to keep sandboxes in, and others out of them.",
    )
    templates: str = _setting("", "YAML file of templates; empty: the built-in `default` only.")
    pool: int = _setting(
        0, "Sandboxes of template `default` that wait for calls in the cluster; 0: as the template file says."
    )
    data_dir: str = _setting("", "Directory of the database and the master key; empty: the user's state directory.")
    store_url: str = _setting(
        "",
        "PostgreSQL database that several services share, `postgresql://user:password@host/database`; empty: a SQLite "
        "file in the data directory, for one service.",
        secret=True,
    )
    master_key: str = _setting(
        "",
        "Secret, 32 characters or more, that sandbox tokens are derived from; empty: one kept in the data directory.",
        secret=True,
    )
    max_concurrency: int = _setting(64, "Executions that run at once; more wait in the queue.")
    max_cold_starts: int = _setting(
        64,
        "Most sandboxes made for calls in the cluster at once; fewer where room is short. Other calls wait their turn.",
    )
    max_queue: int = _setting(
        1000, "Executions that may wait; more get 429, unless their tenant has less than its share waiting."
    )
    sync_wait_seconds: float = _setting(300.0, "How long `POST /execute` holds the connection before it answers 202.")
    max_body_bytes: int = _setting(
        32 * MIB, "Largest request body; of bodies on their way at once eight times as much, a tenant's half of it."
    )
    body_timeout_seconds: float = _setting(
        30.0, "How long a request's head may take, and its body may pause or be late."
    )
    keep_seconds: float = _setting(7 * 24 * 3600.0, "How long finished executions are kept.")
    keep_bytes: int = _setting(
        2048 * MIB, "Most bytes of finished executions; the oldest of the tenant with most go first."
    )
    drain_seconds: float = _setting(
        0.0,
        "How long a service that is told to stop still takes calls, each answer the last on its connection: until "
        "load balancers know.",
    )
    shutdown_seconds: float = _setting(30.0, "How long a stopping service then waits for running calls.")
    log_format: str = _setting(
        "auto", "One JSON line an event, or text; auto is text on a terminal.", choices=("auto", "json", "text")
    )
    log_level: str = _setting(
        "info", "Least severe level that is logged.", choices=("debug", "info", "warning", "error")
    )
    tracing: bool = _setting(
        default=False,
        help_text="Send a trace of each call to an OpenTelemetry collector, at OTEL_EXPORTER_OTLP_ENDPOINT.",
    )

    @property
    def asks_callers(self) -> bool:
        """Whether any way to tell callers is open."""
        return bool(
            self.api_key or self.api_keys or self.oidc_issuer or self.oidc_audience or self.token_review_audience
        )

    def data_path(self, environ: Mapping[str, str]) -> Path:
        """The data directory to use."""
        return Path(self.data_dir) if self.data_dir else default_data_dir(environ)


@dataclass(frozen=True, slots=True)
class SettingInfo:
    """One setting, for the command line and the documentation."""

    name: str
    flag: str
    variable: str
    type: type
    default: object
    help: str
    choices: tuple[str, ...]
    secret: bool


def describe_settings() -> list[SettingInfo]:
    """All settings in their order."""
    return [
        SettingInfo(
            name=f.name,
            flag="--" + f.name.replace("_", "-"),
            variable="EXECUTOR_" + f.name.upper(),
            type=type(f.default),
            default=f.default,
            help=f.metadata["help"],
            choices=f.metadata["choices"],
            secret=f.metadata["secret"],
        )
        for f in fields(Settings)
    ]
