"""A service that answers GET /orders/... to whoever holds a fitting token, on the standard library's server.

cap keygen root.key
export CAP_STORE=sqlite:///cap.db
cap mint 'user("alice"); right("orders", "read");' --private-key root.key > alice.token
python examples/service.py root.key.pub "$CAP_STORE" 8080 &
curl -H "Authorization: Bearer $(cat alice.token)" localhost:8080/orders/7
cap revoke alice.token
curl -H "Authorization: Bearer $(cat alice.token)" localhost:8080/orders/7
"""

import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from capability import Guard, Outcome, PublicKey
from capability.store import open_store

POLICY = "allow if user($user), application($app), operation($op), right($app, $op)"

STATUS = {
    Outcome.DENIED: HTTPStatus.FORBIDDEN,
    Outcome.EXECUTION_ERROR: HTTPStatus.FORBIDDEN,
    Outcome.STORE_UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    Outcome.LIMIT_REACHED: HTTPStatus.SERVICE_UNAVAILABLE,
}
"""What a no looks like in HTTP; the others (revoked, expired, no token at all) are 401."""


def make_server(guard: Guard, port: int) -> ThreadingHTTPServer:
    """Returns a server for the orders, which only `guard` lets anyone see; port 0 takes a free one."""

    class Orders(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            scheme, _, token = self.headers.get("Authorization", "").partition(" ")
            if scheme.lower() != "bearer" or not self.path.startswith("/orders/"):
                return self.answer(HTTPStatus.UNAUTHORIZED, "a bearer token for /orders/ is needed")
            decision = guard.check(token, application="orders", operation="read", resource=self.path)
            if not decision.allowed:
                self.log_message("%s", decision.to_json())
                return self.answer(
                    STATUS.get(decision.outcome, HTTPStatus.UNAUTHORIZED), decision.outcome.value
                )
            return self.answer(HTTPStatus.OK, f"here is {self.path}, {decision.subject}")

        def answer(self, status: HTTPStatus, text: str) -> None:
            body = f"{text}\n".encode()
            self.send_response(status)
            if status == HTTPStatus.UNAUTHORIZED:
                self.send_header("WWW-Authenticate", 'Bearer realm="orders"')
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return ThreadingHTTPServer(("127.0.0.1", port), Orders)


def main(key_file: str, store_url: str, port: str) -> None:
    """Serves until interrupted."""
    guard = Guard(
        keys=PublicKey(Path(key_file).read_text("utf-8").strip()),
        policy=POLICY,
        revocations=open_store(store_url),
    )
    make_server(guard, int(port)).serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
