"""Which addresses may be asked on a user's behalf."""

import pytest

from app.domain.addresses import is_web_port, may_be_asked, networks

PUBLIC = ["1.1.1.1", "93.184.215.14", "2606:4700::1111", "64:ff9b::101:101", "::ffff:1.1.1.1"]
FORBIDDEN = {
    "this host": ["0.0.0.0", "0.1.2.3", "::"],
    "loopback": ["127.0.0.1", "127.255.255.254", "::1", "::ffff:127.0.0.1", "::127.0.0.1"],
    "private": ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "::ffff:10.0.0.1"],
    "carrier": ["100.64.0.1", "100.100.100.200"],
    "link-local": ["169.254.0.1", "fe80::1", "fe80::1%eth0", "fec0::1"],
    "metadata": ["169.254.169.254", "fd00:ec2::254", "168.63.129.16", "192.0.0.192"],
    "unique local": ["fc00::1", "fd12:3456::1"],
    "IPv4 in IPv6": [
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::a00:1",
        "2002:7f00:1::",
        "2002:101:101::",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    ],
    "documentation": ["192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1"],
    "benchmarks": ["198.18.0.1", "198.19.255.255"],
    "multicast": ["224.0.0.1", "239.1.1.1", "ff02::1", "ff0e::1"],
    "reserved": ["240.0.0.1", "255.255.255.255", "192.88.99.1", "100::1", "4000::1", "e000::1"],
}


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_may_be_asked(address: str) -> None:
    assert may_be_asked(address)


@pytest.mark.parametrize("address", [each for kind in FORBIDDEN.values() for each in kind])
def test_all_others_may_not(address: str) -> None:
    assert not may_be_asked(address)


def test_an_allowed_network_opens_itself_and_nothing_else() -> None:
    allowed = networks("10.1.0.0/16, 127.0.0.1 fd00:1::/32")
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "127.0.0.1", "fd00:1::5", "1.1.1.1"):
        assert may_be_asked(address, allowed), address
    for address in ("10.2.0.1", "127.0.0.2", "::1", "fd00:2::5", "169.254.169.254"):
        assert not may_be_asked(address, allowed), address


def test_ports_are_those_of_web_servers() -> None:
    assert [port for port in range(1, 1024) if is_web_port(port)] == [80, 443]
    assert is_web_port(1024)
    assert is_web_port(65535)
    assert not is_web_port(0)
    assert not is_web_port(65536)


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(ValueError, match="10"):
        networks("10.0.0.0/33")
