"""What the load on a sidecar asks, and by which policies it is answered; the same of Cerbos."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

POLICY: Final = """
granted("viewer", "orders", "read"); granted("viewer", "invoices", "read");
granted("editor", "orders", "read"); granted("editor", "orders", "write");
granted("auditor", "ledger", "read");
operation("read") <- http_method($m), {"GET", "HEAD"}.contains($m);
operation("write") <- http_method($m), {"POST", "PUT", "PATCH"}.contains($m);
resource($p) <- http_path($p);
deny if http_path($p), $p.starts_with("/orders/internal/");
allow if user($u), role($r), application($a), operation($o), granted($r, $a, $o);
"""

CERBOS_POLICY: Final = """
apiVersion: api.cerbos.dev/v1
resourcePolicy:
  resource: orders
  version: default
  rules:
    - actions: ["*"]
      effect: EFFECT_DENY
      roles: ["*"]
      condition: {match: {expr: 'request.resource.attr.path.startsWith("/orders/internal/")'}}
    - actions: ["read", "write"]
      effect: EFFECT_ALLOW
      roles: ["editor"]
      condition:
        match:
          all:
            of:
              - expr: 'request.principal.attr.applications.exists(a, a == "orders")'
              - expr: '"read" in request.principal.attr.operations'
              - expr: 'request.resource.attr.path.startsWith(request.principal.attr.below)'
              - expr: 'timestamp(request.principal.attr.expires) > now()'
"""
"""What policy and token say together; Cerbos is told what the token holds, and verifies nothing."""

CERBOS_REQUEST: Final = {
    "principal": {
        "id": "user-1",
        "roles": ["editor", "auditor"],
        "attr": {
            "applications": ["orders", "invoices"],
            "operations": ["read", "list", "write"],
            "below": "/orders/",
            "expires": "2100-01-01T00:00:00Z",
        },
    },
    "resources": [
        {"resource": {"kind": "orders", "id": "7", "attr": {"path": "/orders/7"}}, "actions": ["read"]}
    ],
}


def check_script(folder: Path, tokens: Sequence[str]) -> Path:
    """Writes what wrk sends to a check; in a file, as arguments of processes are for all to read."""
    lines = ",\n".join(f'"Bearer {each}"' for each in tokens)
    script = folder / "check.lua"
    script.touch(mode=0o600)
    script.write_text(
        f"local tokens = {{{lines}}}\nlocal made, n = {{}}, 0\n"
        "function init(args)\n"
        "  for i, each in ipairs(tokens) do\n"
        '    made[i] = wrk.format("GET", "/orders/" .. i, {Authorization = each})\n'
        "  end\nend\n"
        "function request()\n  n = n % #made + 1\n  return made[n]\nend\n"
    )
    return script


def cerbos_script(folder: Path) -> Path:
    """Writes what wrk sends to Cerbos."""
    script = folder / "cerbos.lua"
    script.write_text(
        'wrk.method = "POST"\nwrk.path = "/api/check/resources"\n'
        f"wrk.body = [[{json.dumps(CERBOS_REQUEST)}]]\n"
        'wrk.headers["Content-Type"] = "application/json"\n'
    )
    return script
