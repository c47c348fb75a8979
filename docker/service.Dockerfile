# The embedding service: CPU by default, `--build-arg EXTRA=gpu` for the CUDA runtime. No torch in either.
ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS build
ARG EXTRA=cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python3 -m venv /opt/bootleg
WORKDIR /src
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY bundle bundle
COPY service service
# The other rooms stay outside the image; their folders must exist for the wheel to build.
RUN mkdir -p training/bootleg_training export/bootleg_export \
 && touch training/bootleg_training/__init__.py export/bootleg_export/__init__.py \
 && /opt/bootleg/bin/pip install ".[${EXTRA}]"

FROM ${PYTHON_IMAGE}
RUN useradd --system --uid 10001 --no-create-home --home-dir /nonexistent bootleg
COPY --from=build /opt/bootleg /opt/bootleg
ENV PATH=/opt/bootleg/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    BOOTLEG_HOST=0.0.0.0 BOOTLEG_PORT=8000
USER 10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
  CMD python3 -c "import os, urllib.request as r; r.urlopen('http://127.0.0.1:%s/health/ready' % os.environ['BOOTLEG_PORT'], timeout=2)"
CMD ["bootleg", "serve"]
