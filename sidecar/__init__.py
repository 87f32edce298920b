"""Auth sidecar: a reverse proxy that lets a request through only with a live session."""

__version__ = "0.1.0"
