"""Who reaches a network address: this machine alone, a private network, or everybody."""
import ipaddress
import socket

import requests

# Networks whose addresses end with one of IPv4: that of NAT64 and the old form.
WITH_IPV4 = tuple(map(ipaddress.ip_network, ("64:ff9b::/96", "::/96")))


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
    ips = [_ip(str(address[0]).partition("%")[0]) for *_, address in found]
    return all(ip.is_global and not ip.is_multicast for ip in ips)


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An IP address; one of IPv6 that leads to an address of IPv4 gives that.

    Raises:
      ValueError: the text is none.
    """
    found = ipaddress.ip_address(text)
    if isinstance(found, ipaddress.IPv6Address):
        if inner := found.ipv4_mapped or found.sixtofour:
            return inner
        if any(found in network for network in WITH_IPV4) and int(found) > 1:
            return ipaddress.IPv4Address(int(found) % 2**32)
    return found
