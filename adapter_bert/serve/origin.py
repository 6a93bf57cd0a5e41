"""Refuses requests that another web site had somebody's browser send.

A page of any web site can have a browser send requests to an address on this machine. It can name
the server by a host name of its own that it lets point here (DNS rebinding), or send a form or text
across sites. The first shows in the header Host, the second in Origin and Sec-Fetch-Site, which
browsers set and pages cannot change.
"""
import urllib.parse
from collections.abc import Mapping

from adapter_bert.addresses import is_loopback
from adapter_bert.serve.refusal import Refusal

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


def allowed_hosts(address: str, names: str | None) -> frozenset[str] | None:
    """The hosts that a request may name; None for all.

    Args:
      address: that the server listens at; of one that only this machine reaches, its names.
      names: more hosts with commas between, or * for all; None where nothing is said.
    """
    if names == "*" or names is None and not is_loopback(address):
        return None
    more = {_host_of(f"//{name.strip()}") for name in (names or "").split(",")}
    return (LOOPBACK_HOSTS | more | {address.lower()}) - {""}


def check(headers: Mapping[str, str], hosts: frozenset[str] | None) -> None:
    """Refusal of a request that another web site had a browser send.

    Args:
      headers: of the request, names in lower case.
      hosts: what `allowed_hosts` returns.
    """
    host = _host_of(f"//{headers.get('host', '')}")
    if hosts is not None and host not in hosts:
        raise Refusal("the Host header names no host of this server; start it with "
                      "--allowed_hosts=NAME to serve that name", 421)
    origin = headers.get("origin")
    # Behind a proxy, the page's own origin is a name of the proxy: one of the allowed hosts.
    is_foreign = origin is not None and _host_of(origin) not in {host, *(hosts or ())}
    is_navigation = headers.get("sec-fetch-mode") == "navigate"
    if is_foreign or headers.get("sec-fetch-site") in ("cross-site", "same-site") and (
            not is_navigation):
        raise Refusal("the request comes from a page of another site", 403)


def _host_of(address: str) -> str:
    """The host in an address in lower case, without its port; "" if it has none."""
    try:
        return (urllib.parse.urlsplit(address).hostname or "").removesuffix(".")
    except ValueError:
        return ""
