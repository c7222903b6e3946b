"""Connections to public addresses only, none of which outlasts its deadline.

What a stranger's list names must not make this machine call its own neighbors: a router's page, a
cloud's metadata service, a database. So names are resolved here, every address of theirs is looked
at, and the connection goes to just the address that was looked at: a name that answers otherwise
the next time (DNS rebinding) gains nothing. TLS still verifies the name.
"""

import ipaddress
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import httpcore2
import httpx2

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_DEADLINE: ContextVar[float] = ContextVar("deadline")


class RefusedError(Exception):
    """An address is not public."""


class NoSuchNameError(Exception):
    """A host's name leads nowhere."""


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Within it, what this thread reads and writes times out after so many seconds in all.

    A timeout for each read alone is no end: a server may send a byte a second for ever.
    """
    token = _DEADLINE.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _DEADLINE.reset(token)


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet, and so does one wrapped in it."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        wrapped = ip.ipv4_mapped or ip.sixtofour
        if ip in _NAT64:  # how networks without IPv4 write IPv4 addresses
            wrapped = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if wrapped:
            return is_public(str(wrapped))
        if ip.is_site_local:
            return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


class Transport(httpx2.HTTPTransport):
    """An HTTP transport whose connections are guarded and which knows no proxy."""

    def __init__(self, *, allow_private: bool, connections: int):
        super().__init__(trust_env=False)
        self._pool = httpcore2.ConnectionPool(
            ssl_context=httpx2.create_ssl_context(trust_env=False),
            max_connections=connections,
            max_keepalive_connections=connections,
            keepalive_expiry=5.0,
            network_backend=_Backend(allow_private),
        )


class _Backend(httpcore2.NetworkBackend):
    """Resolves, looks, connects."""

    def __init__(self, allow_private: bool):
        self._allow_private = allow_private
        self._sockets = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise NoSuchNameError(f"the name {host} leads nowhere: {error}") from error
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        if not self._allow_private:
            for address in addresses:
                if not is_public(address):
                    raise RefusedError(
                        f"{host} is the address {address}, which is not public; --allow-private "
                        "allows such addresses"
                    )
        for number, address in enumerate(addresses, start=1):
            try:
                stream = self._sockets.connect_tcp(
                    address, port, _left(timeout), local_address, socket_options
                )
                return _Stream(stream)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                if number == len(addresses):
                    raise
        raise httpcore2.ConnectError(f"the name {host} has no address")


class _Stream(httpcore2.NetworkStream):
    """A connection whose every step ends by the deadline of whoever uses it."""

    def __init__(self, stream: httpcore2.NetworkStream):
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, _left(timeout)))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left(timeout: float | None) -> float | None:
    """The timeout, or what is left until the deadline if that is less."""
    end = _DEADLINE.get(None)
    if end is None:
        return timeout
    left = end - time.monotonic()
    if left <= 0:
        raise httpcore2.ReadTimeout("the deadline has passed")
    return left if timeout is None else min(left, timeout)
