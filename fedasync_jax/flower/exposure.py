"""Whether a server can be reached from other machines, found by trying."""

import socket

_SECONDS = 1.0


def find_exposure(address: str) -> str | None:
    """Return an address under which other machines may reach a server, or None.

    Args:
      address: host and port, such as ``127.0.0.1:8000``, by which it is reached here.
    """
    host, _, port = address.rpartition(":")
    host = host.rpartition("/")[2].strip("[]")
    if not is_loopback(host):
        return host
    return next((h for h in _own_addresses() if _is_open(h, int(port))), None)


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine and reached through itself.

    >>> [is_loopback(host) for host in ("127.0.0.1", "localhost", "::1", "10.0.0.7")]
    [True, True, True, False]
    """
    return host in ("localhost", "::1") or host.startswith("127.")


def _own_addresses() -> list[str]:
    """Return the addresses of this machine that are not loopback."""
    found = set()
    try:
        # No packet is sent: the system only looks up by which way it would go.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way:
            way.connect(("192.0.2.1", 9))
            found.add(way.getsockname()[0])
    except OSError:
        pass
    try:
        names = socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)
        found |= {str(name[4][0]) for name in names}
    except OSError:
        pass
    return sorted(host for host in found if not is_loopback(host))


def _is_open(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=_SECONDS):
            return True
    except OSError:
        return False
