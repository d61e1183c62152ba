"""The emulator of Google's store, with a thread for each request.

By itself it serves one request after the other: one that a client does not read to its end holds
up all others, which no real store does. Changes of the store still happen one at a time.
"""

import sys
import threading
from collections.abc import Callable
from http import server as http_server
from typing import Any

from gcp_storage_emulator import server as emulator
from gcp_storage_emulator.__main__ import main

_LOCK = threading.Lock()


def _alone(handler: Callable[..., None]) -> Callable[..., None]:
    def locked(*arguments: Any) -> None:
        with _LOCK:
            handler(*arguments)

    return locked


if __name__ == "__main__":
    http_server.HTTPServer = http_server.ThreadingHTTPServer  # type: ignore[misc]
    for _, handlers in emulator.HANDLERS:
        handlers.update({method: _alone(handler) for method, handler in handlers.items()})
    sys.exit(main())
