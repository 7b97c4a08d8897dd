"""How the backend reaches its cluster and what it makes there."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from enum import StrEnum


class DispatchMode(StrEnum):
    """How runners are reached."""

    AUTO = "auto"
    POD_IP = "pod-ip"
    PROXY = "proxy"


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesSettings:
    """Made once by the composition root. An empty text means: not given."""

    master_key: bytes = field(repr=False)
    """Secret that the tokens of sandboxes derive from."""
    owner: str = ""
    """Tells this service from another with the same key: each deletes only what its own records don't want."""
    namespace: str = "default"
    """Namespace of the sandboxes."""
    image: str = "executor:dev"
    """Image of sandboxes whose template names none."""
    kubeconfig: str = ""
    """Path of a kubeconfig; empty: in-cluster credentials, else ``$KUBECONFIG``, else ``~/.kube/config``."""
    context: str = ""
    """Context of the kubeconfig; empty: its current one."""
    dispatch: DispatchMode = DispatchMode.AUTO
    """How runners are reached."""

    owner_lease: str = ""
    """Lease in the namespace that owns what is made there; empty: nothing does."""
    require_network_policy: bool = False
    """Whether calls must wait until the network was seen to hold a sandbox."""
    port: int = 0
    """Port where this service serves; 0: not known."""
    max_cold_starts: int = 64
    """Sandboxes made for calls at once; those of the pools come on top."""

    @property
    def service_id(self) -> str:
        """Label value that tells this service's Jobs from another's; it lets nobody guess at the key."""
        return hmac.new(self.master_key, f"service {self.owner}".encode(), hashlib.sha256).hexdigest()[:10]
