"""Tokens from headers: one token, or a refusal."""

import pytest

from capability.http.bearer import MalformedRequest, bearer_token, request_token


@pytest.mark.parametrize("value", ["Bearer abc-_=", "bearer abc-_=", "BEARER  abc-_=", " Bearer abc-_=\t"])
def test_the_scheme_is_read_in_any_case(value: str) -> None:
    assert bearer_token([value]) == "abc-_="


@pytest.mark.parametrize(
    "values", [[], ["Basic dXNlcjpwYXNz"], ['Digest username="a", realm="b"'], ["Negotiate"]]
)
def test_no_bearer_token_is_none(values: list[str]) -> None:
    assert bearer_token(values) is None


@pytest.mark.parametrize(
    "values",
    [
        ["Bearer a", "Bearer b"],
        ["Basic dXNlcjpwYXNz", "Bearer b"],
        ["Bearer a", "Bearer a"],
        ["Bearer a,Bearer b"],
        ["Bearer a, Bearer b"],
        ["Basic dXNlcjpwYXNz, Bearer b"],
        ["Basic dXNlcjpwYXNz,Bearer b"],
        ["Bearer"],
        ["Bearer "],
        ["Bearer a b"],
        ["Bearer a\tb"],
        ["Bearer\ta"],
        ["Bearer =a"],
        ["Bearer a\n"],
        ["Bearer tökn"],
        ["Bearer biscuit:abc"],
        [""],
        [", Bearer a"],
    ],
)
def test_what_is_not_one_token_is_malformed(values: list[str]) -> None:
    with pytest.raises(MalformedRequest) as caught:
        bearer_token(values)
    assert "dXNl" not in str(caught.value)


def test_an_api_key_is_read_only_where_it_is_switched_on() -> None:
    headers = [("X-API-Key", "abc")]
    assert request_token(headers) is None
    assert request_token(headers, api_key=True) == "abc"
    assert request_token([("authorization", "Bearer abc")], api_key=True) == "abc"


@pytest.mark.parametrize(
    "headers",
    [
        [("x-api-key", "a"), ("x-api-key", "a")],
        [("x-api-key", "a"), ("authorization", "Bearer a")],
        [("x-api-key", "a"), ("authorization", "Basic a")],
        [("x-api-key", "a b")],
        [("x-api-key", "")],
        [("x_api_key", "a")],
        [("X_API-KEY", "a"), ("x-api-key", "a")],
    ],
)
def test_two_credentials_and_other_spellings_are_malformed(headers: list[tuple[str, str]]) -> None:
    with pytest.raises(MalformedRequest):
        request_token(headers, api_key=True)
