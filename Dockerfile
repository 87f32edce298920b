# The image of the sidecar: build with `docker build -t auth-sidecar:0.1.0 .`
#
# BASE serves both stages, so that the interpreter the packages were made for is the one that runs them.
# Another registry, or a digest:  --build-arg BASE=registry.example.com/python:3.13-slim@sha256:…
#
# RUN in exec form needs no shell in the base and stays one step a line, so consecutive ones are meant:
# hadolint global ignore=DL3059
ARG BASE=python:3.13-slim

# ── build: every package by its hash, into a virtual environment without pip ─────────────────────────────
FROM ${BASE} AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ONLY_BINARY=:all: \
    PIP_ROOT_USER_ACTION=ignore \
    PYTHONDONTWRITEBYTECODE=1

WORKDIR /src

# The dependencies first: this layer changes with the lock file, not with the code.
COPY requirements.lock requirements-build.lock ./
RUN ["python", "-m", "venv", "/opt/build"]
RUN ["python", "-m", "venv", "--without-pip", "/opt/venv"]
RUN ["/opt/build/bin/pip", "install", "--require-hashes", "-r", "requirements-build.lock"]
RUN ["/opt/build/bin/pip", "--python", "/opt/venv/bin/python", "install", "--no-compile", "--require-hashes", "-r", "requirements.lock"]

# Then the package itself, offline: what makes its wheel and what it runs with are there already.
COPY pyproject.toml README.md LICENSE ./
COPY sidecar ./sidecar
RUN ["/opt/build/bin/pip", "wheel", "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", "/dist", "."]
RUN ["/opt/build/bin/pip", "--python", "/opt/venv/bin/python", "install", "--no-compile", "--no-index", "--no-deps", "--find-links", "/dist", "auth-sidecar"]

# Bytecode that is never checked against its source again: nothing is written or compared at run time.
RUN ["/opt/venv/bin/python", "-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash", "/opt/venv/lib"]

# ── the image: the environment, and nothing of the tools that made it ────────────────────────────────────
FROM ${BASE}

LABEL org.opencontainers.image.title="auth-sidecar" \
      org.opencontainers.image.description="A reverse proxy that lets a request through only with a live session" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.documentation="docs/operating.md"

ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1

COPY --from=build /opt/venv /opt/venv

# A number, not a name: `runAsNonRoot` can check it, and no user database is needed.
USER 65532:65532
WORKDIR /tmp

# 5005 takes the traffic; 9105 is for probes and metrics and belongs to the cluster alone.
EXPOSE 5005 9105

# For engines without probes of their own; Kubernetes ignores it and asks /livez and /readyz itself.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:9105/livez', timeout=2)"]

STOPSIGNAL SIGTERM
ENTRYPOINT ["sidecar"]
CMD ["run"]
