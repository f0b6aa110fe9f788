"""The hub that timm downloads weights from: found out of reach in seconds."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from urllib.parse import urlsplit
from urllib.request import getproxies

_PATIENCE = 4.0  # seconds; a look-up of the host's name has no limit of its own


@contextmanager
def hub_within_reach() -> Iterator[None]:
    """Keep huggingface_hub to its cache while the hub cannot be reached.

    Its own retries take a minute or more before they say that there is no network.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE or getproxies() or _answers(constants.ENDPOINT):
        yield
        return
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = False


def _answers(endpoint: str) -> bool:
    """Tell whether a server accepts connections, within `_PATIENCE`."""
    url = urlsplit(endpoint)
    port = url.port or (80 if url.scheme == "http" else 443)
    reached: list[bool] = []

    def connect() -> None:
        try:
            socket.create_connection((url.hostname, port), _PATIENCE).close()
        except OSError:
            return
        reached.append(True)

    thread = Thread(target=connect, daemon=True)
    thread.start()
    thread.join(_PATIENCE)
    return bool(reached)
