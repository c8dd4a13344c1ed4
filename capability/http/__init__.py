"""What HTTP asks of everybody who answers for a guard: tokens from headers, and a no as a response.

No framework is imported here; the sidecar and the integrations share it.

bearer    the token of a request (RFC 6750)
problems  what a decision is in HTTP: status, headers and problem document (RFC 9457)
requests  what a method and a path say to a policy
"""
