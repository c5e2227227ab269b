"""Messages over a stream socket: eight bytes that say how long it is, then the message."""

from __future__ import annotations

import socket
import time

_LENGTH = 8


class WireError(OSError):
    """What came over the wire cannot be taken; the message says why."""


class Closed(WireError):
    """The other side is gone."""


class Late(WireError):
    """Nothing more came in time."""


class TooMuch(WireError):
    """The other side wants to send more than it may."""


def send(connection: socket.socket, message: bytes, until: float | None = None) -> None:
    """Send one message, before the moment ``until`` (of `time.monotonic`).

    Raises:
        Closed: the other side is gone.
        Late: it did not take the message in time.
    """
    connection.settimeout(_left(until))
    try:
        connection.sendall(len(message).to_bytes(_LENGTH, "big"))
        connection.sendall(message)
    except TimeoutError:
        raise Late("the other side does not read") from None
    except OSError as error:
        raise Closed(f"the other side is gone ({error})") from None


def receive(connection: socket.socket, most: int, until: float | None = None) -> bytes:
    """One message of at most ``most`` bytes, before the moment ``until`` (of `time.monotonic`).

    Raises:
        Closed: the other side is gone, perhaps in the middle of a message.
        Late: it did not come in time.
        TooMuch: it is announced as longer. Nothing of it has been read, so the connection is of no more use.
    """
    length = int.from_bytes(_exactly(connection, _LENGTH, until), "big")
    if length > most:
        raise TooMuch(f"a message of {length:,} bytes was announced, and {most:,} are allowed")
    return bytes(_exactly(connection, length, until))


def _exactly(connection: socket.socket, count: int, until: float | None) -> bytearray:
    content = bytearray()
    while len(content) < count:  # grows as it comes: who announces much and sends little costs little
        connection.settimeout(_left(until))
        try:
            piece = connection.recv(min(count - len(content), 2**20))
        except TimeoutError:
            raise Late("nothing more came in time") from None
        except OSError as error:
            raise Closed(f"the other side is gone ({error})") from None
        if not piece:
            raise Closed("the other side is gone")
        content += piece
    return content


def _left(until: float | None) -> float | None:
    if until is None:
        return None
    if (left := until - time.monotonic()) <= 0:
        raise Late("the time is up")
    return left
