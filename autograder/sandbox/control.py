"""The judge's end of the socket to a zygote: numbered requests, whose answers come in their order."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from autograder.sandbox.zygote import MAX_REQUEST


class Control:
    """Requests to a zygote. Not every answer has to be waited for at once."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._asked = 0
        self._read = 0
        self._answers: dict[int, dict[str, Any]] = {}

    def ask(self, request: Mapping[str, Any], files: Sequence[int] = ()) -> int:
        """Send a request, with open files; gives its number. Raises `OSError`."""
        socket.send_fds(self._connection, [json.dumps(dict(request)).encode()], list(files))
        self._asked += 1
        return self._asked

    def answer(self, number: int, seconds: float) -> dict[str, Any]:
        """The answer to a request, once, waiting so many seconds at most for each on the way. Raises `OSError`."""
        self._connection.settimeout(seconds)
        while self._read < number:
            content = self._connection.recv(MAX_REQUEST)
            if not content:
                raise OSError("it has ended")
            self._read += 1
            self._answers[self._read] = json.loads(content)
            if failed := self._answers[self._read].get("failed"):
                raise OSError(failed)
        return self._answers.pop(number)

    def close(self) -> None:
        """Close it; the zygote ends."""
        self._connection.close()
