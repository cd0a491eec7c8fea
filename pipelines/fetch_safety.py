"""Which URLs are opened, and connections that go only where the check has looked.

A host's name is resolved once, every address is checked, and the socket is opened to a checked address: a name that
changes its answer between check and use gains nothing. Redirects open their connections here too.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
import unicodedata
from typing import Any
from urllib.parse import urlsplit

from requests import Session
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import NameResolutionError, NewConnectionError

from pipelines.errors import ClipError

# IPv6 ranges that carry an IPv4 address inside, so that a private one hides behind a global prefix.
_TUNNELS = tuple(ipaddress.ip_network(net) for net in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "::/96"))


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet: not private, loopback, link-local, multicast, reserved or a tunnel."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return is_public(str(ip.ipv4_mapped))
        if any(ip in net for net in _TUNNELS):
            return False
    return ip.is_global and not ip.is_multicast


def host_of(url: str) -> str:
    """Host of an http or https URL, in lower case. Raises ClipError not_allowed for any other URL.

    Refused as well: white space, control and direction letters anywhere in it, and a user name or password, which the tables would keep.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.scheme not in ("http", "https") or port == 0 or any(unicodedata.category(c)[0] in "CZ" for c in url):
        cause = "only http and https addresses with a host, without white space and control letters, are opened"
        raise ClipError("not_allowed", shown(url), cause, "give the address of a file on the web")
    if "@" in parts.netloc:
        cause = "it holds a user name or password, which the tables would keep"
        raise ClipError("not_allowed", f"address at {host}", cause, "give an address without them, or download the file and use a folder")
    return host.lower()


def shown(text: str) -> str:
    """Text of others, safe to print: control, direction and line letters escaped, at most 300 letters."""
    return "".join(c if c == " " or unicodedata.category(c)[0] not in "CZ" else c.encode("unicode_escape").decode() for c in text[:300])


def addresses_of(host: str, port: int) -> list[str]:
    """Addresses of a host that may be opened. Raises ClipError not_allowed where one of them is not public; OSError where there is none."""
    found = list(dict.fromkeys(str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))
    private = [address for address in found if not is_public(address)]
    if private:
        cause = f"{host} is {private[0]}, an address inside a private network"
        raise ClipError("not_allowed", host, cause, "set allow_private_hosts to true if it is your own server")
    return found


class Guard:
    """Cuts the connections of one download from another thread, whatever they wait for."""

    def __init__(self, *, allow_private: bool = False) -> None:
        self.allow_private = allow_private
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self.expired = False

    def add(self, opened: socket.socket) -> None:
        # a duplicate: TLS takes the first descriptor over, and a shutdown reaches the connection through any of them
        with self._lock:
            self._sockets.append(opened.dup())

    def cut(self) -> None:
        """Shut every connection; whoever reads from one sees its end."""
        with self._lock:
            self.expired = True
            for held in self._sockets:
                try:
                    held.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue  # closed already

    def close(self) -> None:
        """Give the descriptors back."""
        with self._lock:
            for held in self._sockets:
                held.close()
            self._sockets.clear()


def _connect(connection: Any, guard: Guard) -> socket.socket:
    host, error = connection._dns_host, None
    try:
        addresses = [host] if guard.allow_private else addresses_of(host, connection.port)
    except socket.gaierror as failure:
        raise NameResolutionError(host, connection, failure) from failure
    for address in addresses:
        try:
            opened = socket.create_connection((address, connection.port), connection.timeout)
        except OSError as failure:
            error = failure
            continue
        guard.add(opened)
        return opened
    raise NewConnectionError(connection, f"no connection to {host}: {error}")


def _pools(guard: Guard) -> dict[str, Any]:
    class Plain(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            return _connect(self, guard)

    class Secure(HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            return _connect(self, guard)

    http = type("Pool", (HTTPConnectionPool,), {"ConnectionCls": Plain})
    https = type("SecurePool", (HTTPSConnectionPool,), {"ConnectionCls": Secure})
    return {"http": http, "https": https}


def safe_session(guard: Guard) -> Session:
    """A session whose every connection, of redirects too, is checked; proxies of the environment are not used: they resolve names themselves."""
    session = Session()
    session.trust_env, session.max_redirects = False, 5
    adapter = HTTPAdapter(max_retries=0)
    adapter.poolmanager.pool_classes_by_scheme = _pools(guard)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session
