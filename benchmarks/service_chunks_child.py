"""A server of one result, with a proxy before it; lines on its input say what is to happen to them.

`python -m benchmarks.service_chunks_child FOLDER CACHE_BYTES`: below FOLDER/root lies the result `f`, and in
FOLDER/other what it is overwritten with. Prints a line of JSON once it listens; answers "ok" to each order.
"""

from __future__ import annotations

import json
import shutil
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import uvicorn
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from bigsvd.service.app import create_app
from bigsvd.service.results.lookup import id_of_path
from bigsvd.service.service import Service
from bigsvd.service.settings import Settings

_START_SECONDS = 30.0
_READY = b"\1" * 2**22  # of which a bare answer is a part


class Proxy:
    """Before the application: once `status` is set, it says that to whatever asks for a chunk."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.status: int | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer itself, or hand on."""
        if self.status is None or "/c/" not in scope.get("path", ""):
            await self._app(scope, receive, send)
            return
        await Response(b"\0" * 64, self.status)(scope, receive, send)


async def bare(request: Request) -> Response:
    """As many bytes as are asked for, ready in memory."""
    size = int(request.path_params["size"])
    return Response(memoryview(_READY)[:size], media_type="application/octet-stream")


def main(folder: Path, cache_bytes: int) -> None:
    """Serve until the input ends."""
    state, root = folder / "state", folder / "root"
    state.mkdir(exist_ok=True)
    settings = Settings(state=state, roots=(root,), memory_bytes=2**29)
    settings = replace(settings, limits=replace(settings.limits, cache_bytes=cache_bytes))
    with Service(settings) as service:
        app = create_app(service)
        app.router.routes.insert(0, Route("/bare/{size:int}", bare))
        proxy = Proxy(app)
        config = uvicorn.Config(proxy, port=0, log_level="error", lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            _obey(service, proxy, root / "f", folder / "other", _port(server))
        finally:
            server.should_exit = True
            thread.join()


def _port(server: uvicorn.Server) -> int:
    end = time.monotonic() + _START_SECONDS
    while not server.started:
        if time.monotonic() > end:
            message = f"no server within {_START_SECONDS:g} s"
            raise TimeoutError(message)
        time.sleep(0.01)
    port: int = server.servers[0].sockets[0].getsockname()[1]
    return port


def _obey(service: Service, proxy: Proxy, path: Path, other: Path, port: int) -> None:
    """Tell where it listens, then do what each line of the input says."""
    result = id_of_path(str(path))
    token_secret, token = service.tokens.make("benchmark", "benchmark", ("read",), 3600.0)
    base = f"http://127.0.0.1:{port}"
    _say({"base": base, "token": token_secret, "zarr": f"{base}/v1/results/{result}/zarr"})
    orders: dict[str, Any] = {
        "token revoked": lambda: service.tokens.revoke(token.id),
        "result deleted": lambda: shutil.rmtree(path),
        "result overwritten": lambda: _overwrite(path, other),
        "proxy says 502": lambda: setattr(proxy, "status", 502),
        "proxy says 404": lambda: setattr(proxy, "status", 404),
    }
    for line in sys.stdin:
        orders[line.strip()]()
        _say("ok")


def _overwrite(path: Path, other: Path) -> None:
    path.rename(path.with_name("before"))
    other.rename(path)


def _say(value: Any) -> None:
    print(json.dumps(value), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
