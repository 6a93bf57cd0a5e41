"""Requests that other web sites have a browser send are refused, all others are not."""
import pytest
from banks import FakeBank, serving

from adapter_bert.errors import InputError
from adapter_bert.serve import origin

LOCAL = origin.allowed_hosts("127.0.0.1", None)


@pytest.mark.parametrize("headers", [
    {"host": "localhost:8501"}, {"host": "127.0.0.1"}, {"host": "[::1]:8501"},
    {"host": "localhost:8501", "origin": "http://localhost:8501", "sec-fetch-site": "same-origin"},
    {"host": "localhost:8501", "sec-fetch-site": "none", "sec-fetch-mode": "navigate"},
    {"host": "localhost:8501", "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}])
def test_a_program_and_the_own_page_are_served(headers):
    origin.check(headers, LOCAL)


@pytest.mark.parametrize("headers", [
    {"host": "evil.example"}, {"host": "evil.example:8501", "origin": "http://evil.example:8501"},
    {"host": ""}, {}, {"host": "localhost.evil.example"}, {"host": "localhost@evil.example"},
    {"host": "[::1"}, {"host": "localhost", "origin": "http://evil.example"},
    {"host": "localhost", "origin": "null"}, {"host": "localhost", "origin": "http://["},
    {"host": "localhost", "sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
    {"host": "localhost", "sec-fetch-site": "same-site", "sec-fetch-mode": "cors"}])
def test_other_sites_are_refused(headers):
    with pytest.raises(InputError):
        origin.check(headers, LOCAL)


def test_a_proxy_may_name_its_own_hosts():
    hosts = origin.allowed_hosts("127.0.0.1", "serve.example:443")
    origin.check({"host": "127.0.0.1:8501", "origin": "https://serve.example"}, hosts)
    origin.check({"host": "serve.example.", "origin": "https://serve.example"}, hosts)


def test_which_hosts_are_allowed():
    assert origin.allowed_hosts("0.0.0.0", None) is None
    assert origin.allowed_hosts("127.0.0.1", "*") is None
    assert "a.example" in origin.allowed_hosts("127.0.0.1", "A.example, b")
    assert origin.allowed_hosts("10.0.0.1", "a") == origin.LOOPBACK_HOSTS | {"a", "10.0.0.1"}
    with pytest.raises(InputError, match="--allowed_hosts"):
        origin.check({"host": "other"}, origin.allowed_hosts("10.0.0.1", "a"))
    origin.check({"host": "other"}, None)


def test_the_server_checks_it(tiny_dir):
    with serving(FakeBank(tiny_dir)) as client:
        assert client.json("GET", "/metrics", None, {"Host": "evil.example"})[0] == 421
        assert client.json("GET", "/healthz", None, {"Host": "10.0.0.7"})[0] == 200
        assert client.json("GET", "/v1/packs", None, {"Origin": "http://evil.example"})[0] == 403
        assert client.json("GET", "/v1/packs")[0] == 200
