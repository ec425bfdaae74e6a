"""Where a cluster is reached."""

import pytest

from cricavpr.cluster import Address
from cricavpr.errors import InputError


@pytest.mark.parametrize("text", ["ray://local", "ray://10.0.0.1:10001", "ray://head.example:1", "ray://[::1]:10001"])
def test_an_address_is_printed_as_it_was_read(text: str) -> None:
    assert str(Address.parse(text)) == text


def test_an_address_has_a_host_and_a_port_unless_it_is_this_machine() -> None:
    assert Address.parse("ray://10.0.0.1:10001") == Address("10.0.0.1", 10001)
    assert Address.parse("ray://[::1]:10001") == Address("::1", 10001)
    assert Address.parse("ray://local").host is None


@pytest.mark.parametrize(
    "text", ["", "local", "ray://", "ray://host", "ray://:1", "ray://h:0", "ray://h:65536", "http://h:1", "ray://a/b:1"]
)
def test_anything_else_is_answered_with_what_is_known(text: str) -> None:
    with pytest.raises(InputError, match=r"Expected ray://HOST:PORT"):
        Address.parse(text)
