"""How a server is: whether it lives, and whether it can work."""

from __future__ import annotations

from bigsvd.errors import BigsvdError
from bigsvd.service.operations.disk import check_room
from bigsvd.service.operations.looked import Looked
from bigsvd.service.operations.metrics import Measures
from bigsvd.service.service import Service
from bigsvd.service.settings import Settings

_PATIENCE_SECONDS = 5.0  # that a cluster has to answer whoever asks whether the server can work


class Operations:
    """What an operator, or the supervisor of the server, asks of it."""

    def __init__(self, service: Service) -> None:
        self._settings = service.settings
        self.measures = Measures(service)
        self._checks = {
            "database": Looked(service.database.check_writable),
            "cluster": Looked(lambda: check_cluster(self._settings)),
            "disk": Looked(lambda: check_room(self._settings)),
        }

    def readiness(self) -> dict[str, str]:
        """Each thing that the server needs: "ok", or the code of what is wrong with it."""
        return {name: _code_of(check) for name, check in self._checks.items()}


def _code_of(check: Looked[None]) -> str:
    try:
        check.found(_PATIENCE_SECONDS)
    except BigsvdError as error:
        return error.code
    except TimeoutError:
        return "E_TIMEOUT"
    return "ok"


def check_cluster(settings: Settings) -> None:
    """`NoWorkersError` where the scheduler does not answer; nothing to check where there is none."""
    if settings.scheduler:
        from bigsvd.execution.cluster import Tls, reached  # noqa: PLC0415 - imports Dask

        with reached(settings.scheduler, Tls.of(settings.tls)):
            return
