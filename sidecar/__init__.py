"""Auth sidecar: a reverse proxy that forwards a request only if its session is live."""

__version__ = "0.1.0"
