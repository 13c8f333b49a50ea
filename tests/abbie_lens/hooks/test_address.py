"""Addresses: what they parse to and what they refuse."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abbie_lens.errors import SiteError
from abbie_lens.hooks.address import Address, parse

KNOWN = ["body.0.hook_resid_pre", "body.0.hook_resid_post", "loop.hook_state"]


@given(st.integers(1, 12), st.integers(-15, 15))
def test_a_single_iteration_is_the_row_python_would_take(n_rows, i):
    address = parse(f"loop.hook_state@{i}", KNOWN)
    if -n_rows <= i < n_rows:
        assert address.select(n_rows) == [list(range(n_rows))[i]]
    else:
        with pytest.raises(SiteError, match=f"iteration {i} does not exist"):
            address.select(n_rows)


bound = st.none() | st.integers(-15, 15)


@given(st.integers(0, 12), bound, bound, st.none() | st.integers(1, 3))
def test_a_slice_is_the_slice_python_would_take(n_rows, start, stop, step):
    text = (
        "loop.hook_state@"
        + ":".join("" if x is None else str(x) for x in (start, stop))
        + ("" if step is None else f":{step}")
    )
    address = parse(text, KNOWN)
    assert address.select(n_rows) == list(range(n_rows))[slice(start, stop, step)]
    assert str(address) == text


def test_a_bare_name_is_every_iteration():
    assert parse("loop.hook_state", KNOWN) == Address("loop.hook_state")
    assert Address("loop.hook_state").select(3) == [0, 1, 2]


def test_an_unknown_site_is_named_with_its_nearest():
    with pytest.raises(
        SiteError, match=r"'body.0.hook_resid_per': no such site. Nearest: body.0.hook_resid_pre"
    ):
        parse("body.0.hook_resid_per@2", KNOWN)


@pytest.mark.parametrize(
    "text",
    [
        "loop.hook_state@",
        "loop.hook_state@x",
        "loop.hook_state@1@2",
        "loop.hook_state@::0",
        "loop.hook_state@1.5",
    ],
)
def test_malformed_addresses_raise(text):
    with pytest.raises(SiteError):
        parse(text, KNOWN)
