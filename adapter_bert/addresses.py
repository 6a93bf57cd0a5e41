"""Who reaches a network address: this machine alone, a private network, or everybody."""
import ipaddress
import socket

import requests


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return _ip(address).is_loopback
    except ValueError:
        return address.lower() == "localhost"


def is_public(host: str) -> bool:
    """Whether all addresses of a host are reachable from everywhere.

    A name that only a proxy can look up is the proxy's to refuse.
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return bool(requests.utils.get_environ_proxies(f"https://{host}/"))
    return all(_ip(str(address[0]).partition("%")[0]).is_global for *_, address in found)


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An IP address; of one of IPv4 in IPv6's form, the former. ValueError where it is none."""
    found = ipaddress.ip_address(text)
    return getattr(found, "ipv4_mapped", None) or found
