"""Calls a service with a token of its own for each request, by httpx and by requests.

CAP_TOKEN="$(cat alice.token)" python client.py http://127.0.0.1:8000/items/7
"""

import os
import sys

import httpx
import requests

from capability.integrations.clients import CapAuth, to_request


def by_httpx(url: str, token: str) -> str:
    """Returns what the service says, over a client whose tokens are good for reading and for a minute."""
    with httpx.Client(auth=CapAuth(token, attenuate={"operation": "read"}), timeout=10) as client:
        return client.get(url).raise_for_status().text


def by_requests(url: str, token: str) -> str:
    """Returns what the service says, with a token that is good for this one request alone."""
    answer = requests.get(url, auth=CapAuth(token, attenuate=to_request), timeout=10)
    answer.raise_for_status()
    return answer.text


if __name__ == "__main__":
    for ask in (by_httpx, by_requests):
        print(ask(sys.argv[1], os.environ["CAP_TOKEN"]))
