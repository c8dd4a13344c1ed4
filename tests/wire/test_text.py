"""Tokens as text: one spelling each, but for the padding and the prefix."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capability.errors import FormatError
from capability.wire.text import from_text, to_text


@given(st.binary())
def test_text_is_url_safe_padded_base64_and_reads_back(data: bytes) -> None:
    text = to_text(data)
    assert text == base64.urlsafe_b64encode(data).decode()
    assert from_text(text) == from_text(text.rstrip("=")) == from_text("biscuit:" + text) == data


@pytest.mark.parametrize(
    "text",
    [
        "Y",  # no bytes have this text
        "YR==",  # trailing bits that are not zero
        "YR",
        "YWJ=",
        "YQ=",  # half of the padding
        "YQ===",
        "YWE==",
        "====",
        "Y=Q=",
        "YWJj=",
        "+_8=",  # the other alphabet
        "-/8=",
        "YQ==\n",  # white space
        " YQ==",
        "YW Jj",
        "YQ==YQ==",  # two texts
        "YQ!=",
        "é",
        "\udcff",
        "\0",
        "biscuit:biscuit:YQ==",
        "Biscuit:YQ==",
        "biscuit: YQ==",
    ],
)
def test_other_spellings_are_refused(text: str) -> None:
    with pytest.raises(FormatError) as caught:
        from_text(text)
    assert caught.value.code == "format.text"
