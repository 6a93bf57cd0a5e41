"""Loopback, private and public addresses, in each form that they have."""
import pytest

from adapter_bert import addresses


@pytest.mark.parametrize("address,wanted", [
    ("127.0.0.1", True), ("127.8.9.1", True), ("::1", True), ("::ffff:127.0.0.1", True),
    ("localhost", True), ("LOCALHOST", True), ("0.0.0.0", False), ("10.0.0.1", False),
    ("::ffff:10.0.0.1", False), ("a.example", False), ("", False)])
def test_loopback(address, wanted):
    assert addresses.is_loopback(address) == wanted


@pytest.mark.parametrize("host,wanted", [
    ("1.1.1.1", True), ("2606:4700::1111", True), ("::ffff:1.1.1.1", True), ("127.0.0.1", False),
    ("10.1.2.3", False), ("192.168.0.1", False), ("169.254.169.254", False), ("100.64.0.1", False),
    ("::ffff:10.0.0.1", False), ("fe80::1", False), ("fd00::1", False), ("0.0.0.0", False),
    ("64:ff9b::a00:1", False), ("64:ff9b::101:101", True), ("2002:a00:1::", False),
    ("::10.0.0.1", False), ("224.0.0.1", False), ("ff02::1", False),
    ("2130706433", False), ("0x7f.1", False), ("localhost", False), ("x\0y", False)])
def test_public(host, wanted):
    assert addresses.is_public(host) == wanted


def test_a_name_that_only_a_proxy_knows(monkeypatch):
    assert not addresses.is_public("no.such.host.invalid")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    assert addresses.is_public("no.such.host.invalid")
    assert not addresses.is_public("10.0.0.1")
