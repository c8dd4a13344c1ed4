"""Guards in front of other people's frameworks: each module is one of them, and each an extra of the package.

What they share needs no framework. All of them decide through `Guard`.

narrowing      what a token is narrowed to before it is handed on
gate           from a request's credentials to a Grant, or a refusal
asgi           any ASGI application
reviewing      what is open by mistake in an application of Starlette or FastAPI
starlette      `requires` for its endpoints
fastapi        a security dependency, and its place in OpenAPI
litestar       a plugin, and guards of routes
flask          `require` for views, before_request for all
django         a middleware and `requires`; drf for its REST framework
grpc, grpc_aio interceptors of servers
stated         a call with its arguments as facts, for celery and mcp
celery         tokens that go with a task
clients        httpx and requests: a token of its own for each request
mcp            MCP servers and clients, by FastMCP
pytest_plugin  fixtures that mint
"""
