"""Who can reach the demo."""

import pytest

from demo.core.reach import only_this_machine


@pytest.mark.parametrize("address", ["localhost", "LOCALHOST", "127.0.0.1", "127.1.2.3", "::1", "[::1]"])
def test_loopback_addresses_are_for_this_machine_alone(address):
    assert only_this_machine(address)


@pytest.mark.parametrize("address", [None, "", "0.0.0.0", "::", "192.168.1.2", "example.org", "localhost.example.org"])
def test_others_are_not(address):
    assert not only_this_machine(address)
