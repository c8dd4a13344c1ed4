"""The check beside a service in any language: `cap serve`.

A proxy or an application asks about each request over HTTP or gRPC; a Guard decides; the answer's status, and
headers that say who it is, go back. Nothing here decides by itself.

What is asked for:

settings, table, configured   what is served; read from [serve] of cap.toml; with flags and the environment
addresses, packages           where it listens; what has to be installed for it

From a request to its answer:

server, sockets, worker       the processes, what they listen at, and how they end
garbage                       what a process for months frees, and when it looks for that
protocol, scopes, bounds      HTTP on our own port; ASGI for `asgi`; what both refuse, and how much they take
messages                      what a server hands to a handler, and gets back
check                         a proxy's question, by
  profiles, paths, facts      what each proxy sends, which paths mean one thing, what a policy is told
  routes, guards, needs       which policy decides, made from the settings; what it needs of a request
  identity                    values of headers that the service can believe
extauthz                      the check over gRPC, by
  extauthz_pb2                what Envoy asks and is answered (extauthz.proto)
api, apiguards, bodies        the API, the guards that decide there, and what it is sent
  authzen, oauth, exchange    AuthZEN; introspection and revocation; token exchange
admin                         health, metrics and status

What a process decides by, and what it tells:

service                       all of it, whichever server asks
live, watching                the state that holds, replaced whole; files that change
keysource, fetch              root keys, from files or over HTTPS
revocations                   a store (feed), signed revocations (signedfeed), or both
kept, storecopy               the last good copies on disk, of a store too
logs, storelog                the decision log, in a file or a store's audit trail
tally, metrics, tracing       counts that all workers share, for Prometheus; spans of OpenTelemetry
"""
