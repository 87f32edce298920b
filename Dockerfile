# The image of the sidecar. Build it with `docker build -t auth-sidecar:0.1.0 .`
#
# Both stages use BASE, so that the packages run on the interpreter for which they were installed.
# The digest pins its content. To update it: docker buildx imagetools inspect python:3.13-slim-trixie
# To use another registry:  --build-arg BASE=registry.example.com/python:3.13-slim@sha256:…
#
# RUN is in exec form, which needs no shell in the base image but allows one command only. Consecutive RUN
# instructions are therefore intended:
# hadolint global ignore=DL3059
#
# The compiler is the one of the base image's Debian. It leaves this image with the build stage, so neither its
# version nor its lists of packages matter:
# hadolint global ignore=DL3008,DL3009
ARG BASE=python:3.13.15-slim-trixie@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b

# ── build stage: installs every package by its hash into a virtual environment without pip ───────────────
FROM ${BASE} AS build

# The C compiler for the hot path.
RUN ["apt-get", "update"]
RUN ["apt-get", "install", "--yes", "--no-install-recommends", "gcc", "libc6-dev"]

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ONLY_BINARY=:all: \
    PIP_ROOT_USER_ACTION=ignore \
    PYTHONDONTWRITEBYTECODE=1

WORKDIR /src

# Dependencies come first, so that these layers are rebuilt only when a lock file changes. The build tools get them
# too, because the hot path is compiled by their types.
COPY requirements.lock requirements-build.lock ./
RUN ["python", "-m", "venv", "/opt/build"]
RUN ["python", "-m", "venv", "--without-pip", "/opt/venv"]
RUN ["/opt/build/bin/pip", "install", "--require-hashes", "-r", "requirements.lock", "-r", "requirements-build.lock"]
RUN ["/opt/build/bin/pip", "--python", "/opt/venv/bin/python", "install", "--no-compile", "--require-hashes", "-r", "requirements.lock"]

# Then the package itself, offline: its build tools and its dependencies are already installed.
# `--build-arg SIDECAR_COMPILE=0` leaves the hot path interpreted.
ARG SIDECAR_COMPILE=1
COPY pyproject.toml setup.py README.md LICENSE ./
COPY sidecar ./sidecar
RUN ["/opt/build/bin/pip", "wheel", "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", "/dist", "."]
RUN ["/opt/build/bin/pip", "--python", "/opt/venv/bin/python", "install", "--no-compile", "--no-index", "--no-deps", "--find-links", "/dist", "auth-sidecar"]

# Compile bytecode that is never checked against its source, so that nothing is written or compared at run time.
RUN ["/opt/venv/bin/python", "-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash", "/opt/venv/lib"]

# ── final stage: the virtual environment, without the build tools ────────────────────────────────────────
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

# A numeric user id, which `runAsNonRoot` can verify and which needs no entry in /etc/passwd.
USER 65532:65532
WORKDIR /tmp

# 5005 serves client traffic. 9105 serves probes and metrics, and must stay inside the cluster.
EXPOSE 5005 9105

# For container engines without probes. Kubernetes ignores it and probes /livez and /readyz itself.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:9105/livez', timeout=2)"]

STOPSIGNAL SIGTERM
ENTRYPOINT ["sidecar"]
CMD ["run"]
