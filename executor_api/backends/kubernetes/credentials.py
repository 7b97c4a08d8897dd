"""Where the API server is and how to prove who we are, from what the official client's loaders find."""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from kubernetes.aio import config
from kubernetes.aio.client import Configuration
from yaml import YAMLError

from executor_api.errors import ConfigurationError

REFRESH_SECONDS = 60.0
"""How old a token may be before its file or plugin is asked again; the plugin's own expiry still holds."""
DEFAULT_KUBECONFIG = "~/.kube/config"

Load = Callable[[Any], Awaitable[Any]]
"""Reads a kubeconfig into a configuration and returns its loader."""


class Credentials:
    """Address, trust and a token that stays fresh. Made by `load`."""

    def __init__(self, configuration: Any, loader: Any | None, source: str, load_again: Load | None = None) -> None:
        self.in_cluster = loader is None
        """Whether they are those of the pod that we are in."""
        self._configuration = configuration
        self._load_again = load_again
        self._loader = loader  # None in a cluster, where the configuration re-reads its token by itself
        self._lock = asyncio.Lock()
        self._refreshed = time.monotonic()
        self._generation = 0
        self.source = source
        self.host: str = configuration.host.rstrip("/")
        self.proxy: str | None = _checked_proxy(configuration.proxy, source)
        self.server_name: str | None = configuration.tls_server_name
        self.ssl_context = _ssl_context(configuration)

    async def headers(self) -> dict[str, str]:
        """Headers that authenticate a request. Raises `ConfigurationError` if the credentials are gone."""
        if self._loader is not None and time.monotonic() - self._refreshed > REFRESH_SECONDS:
            await self._refresh(lambda loader: loader.load_and_set(self._configuration))
        try:
            token = await self._configuration.get_api_key_with_prefix("BearerToken")
        except (OSError, config.ConfigException) as error:
            raise ConfigurationError(f"the service account's token can't be read: {error}") from None
        return {"Authorization": _capitalised(token)} if token else {}

    async def reload(self) -> None:
        """The API server refused us: read the kubeconfig again. Raises `ConfigurationError`."""
        if self._load_again is not None:
            load_again = self._load_again
            await self._refresh(lambda _: load_again(self._configuration))

    async def _refresh(self, step: Callable[[Any], Awaitable[Any]]) -> None:
        """Take a step of the loaders; once for all who want it meanwhile, since a plugin may take seconds."""
        generation = self._generation
        async with self._lock:
            if self._generation != generation:
                return
            self._refreshed = time.monotonic()
            self._loader = await _loading(step(self._loader), self.source) or self._loader
            if self.ssl_context is not None and self._configuration.cert_file:
                _load_certificate(self.ssl_context, self._configuration)
            self._generation += 1


async def load(kubeconfig: str, context: str, environ: Mapping[str, str]) -> Credentials:
    """Find credentials: the kubeconfig given, else the cluster we run in, else ``$KUBECONFIG`` or the user's own file.

    Raises `ConfigurationError`.
    """
    configuration = Configuration()
    if not kubeconfig and "KUBERNETES_SERVICE_HOST" in environ:
        try:
            config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        except (config.ConfigException, OSError) as error:
            raise ConfigurationError(
                f"the pod's service account can't be used: {error}; set automountServiceAccountToken: true"
            ) from None
        return Credentials(configuration, None, "the pod's service account")
    path = kubeconfig or environ.get("KUBECONFIG") or DEFAULT_KUBECONFIG
    _check_exists(path)
    source = f"kubeconfig {path}"

    def load_again(into: Any) -> Awaitable[Any]:
        found: Awaitable[Any] = config.load_kube_config(  # type: ignore[no-untyped-call]
            path, context or None, into, persist_config=False
        )
        return found

    return Credentials(configuration, await _loading(load_again(configuration), source), source, load_again)


def _check_exists(path: str) -> None:
    if not any(Path(part).expanduser().is_file() for part in path.split(os.pathsep) if part):
        raise ConfigurationError(
            f"kubeconfig {path} does not exist; name one with --kubeconfig (EXECUTOR_KUBECONFIG), "
            "or run the service in the cluster"
        )


async def _loading(step: Awaitable[Any], source: str) -> Any:
    """Await a step of the loaders, whose bad input shows as all sorts of errors."""
    try:
        return await step
    except (config.ConfigException, YAMLError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigurationError(
            f"{source} can't be used: {_first_line(error)}; check it with `kubectl config view`"
        ) from None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _checked_proxy(proxy: str | None, source: str) -> str | None:
    if proxy and not proxy.startswith(("http://", "https://")):
        raise ConfigurationError(f"{source} can't be used: its proxy-url must begin with http:// or https://")
    return proxy


def _ssl_context(configuration: Any) -> ssl.SSLContext | None:
    if not configuration.host.startswith("https"):
        return None
    try:
        context = ssl.create_default_context(cafile=configuration.ssl_ca_cert, cadata=configuration.ca_cert_data)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"the certificate authority of the kubeconfig can't be used: {error}") from None
    if configuration.cert_file:
        _load_certificate(context, configuration)
    # Python 3.13 became strict about extensions that the CAs of many clusters lack; no other client is.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _load_certificate(context: ssl.SSLContext, configuration: Any) -> None:
    try:
        context.load_cert_chain(configuration.cert_file, configuration.key_file)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"the client certificate of the kubeconfig can't be used: {error}") from None


def _capitalised(token: str) -> str:
    """``Bearer`` for the in-cluster loader's ``bearer``."""
    scheme, _, value = token.partition(" ")
    return f"{scheme.capitalize()} {value.strip()}"
