"""What every flow works with. Flows take it as their first argument and keep nothing."""

from typing import Protocol

from orchestrator.ports.logs import Logs
from orchestrator.ports.repositories import Repositories
from orchestrator.ports.signals import Signals
from orchestrator.ports.store import Store
from orchestrator.ports.vault import Vault
from orchestrator.settings import Settings


class Tools(Protocol):
    @property
    def settings(self) -> Settings: ...

    @property
    def store(self) -> Store: ...

    @property
    def repositories(self) -> Repositories: ...

    @property
    def vault(self) -> Vault: ...

    @property
    def signals(self) -> Signals: ...

    @property
    def logs(self) -> Logs: ...
