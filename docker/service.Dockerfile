# The embedding service. CPU by default; `--build-arg EXTRA=gpu` for CUDA, out of the same file. No torch in either.
# What is installed is pinned with hashes in docker/requirements-*.lock (`make lock`). A digest pins the base as well:
# --build-arg PYTHON_IMAGE=python:3.11-slim@sha256:...
ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1
# pip and the build backend live in an environment of their own and stay behind.
RUN python3 -m venv /opt/build && python3 -m venv --without-pip /opt/bootleg
COPY docker/requirements-build.lock /locks/build.lock
RUN /opt/build/bin/pip install --require-hashes --only-binary :all: -r /locks/build.lock
ARG EXTRA=cpu
COPY docker/requirements-${EXTRA}.lock /locks/run.lock
RUN /opt/build/bin/pip --python /opt/bootleg/bin/python3 install --require-hashes --only-binary :all: -r /locks/run.lock
WORKDIR /src
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY bundle bundle
COPY service service
# The other rooms stay outside the image; their folders must exist for the wheel to build.
RUN mkdir -p training/bootleg_training export/bootleg_export \
 && touch training/bootleg_training/__init__.py export/bootleg_export/__init__.py \
 && /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
 && /opt/build/bin/pip --python /opt/bootleg/bin/python3 install --no-deps /wheels/*.whl \
 && /opt/build/bin/pip --python /opt/bootleg/bin/python3 check

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="Bootleg Vision service" org.opencontainers.image.licenses="Apache-2.0"
# The engine cache is for the GPU: a volume mounted there takes its owner from this folder.
RUN useradd --system --uid 10001 --user-group --no-create-home --home-dir /nonexistent bootleg \
 && install -d -o 10001 -m 700 /var/cache/bootleg-vision/engines
COPY --from=build /opt/bootleg /opt/bootleg
ENV PATH=/opt/bootleg/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    BOOTLEG_HOST=0.0.0.0 BOOTLEG_PORT=8000 BOOTLEG_ENGINE_CACHE=/var/cache/bootleg-vision/engines
USER 10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
  CMD ["python3", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:%s/health/ready' % os.environ['BOOTLEG_PORT'], timeout=2)"]
ENTRYPOINT ["bootleg"]
CMD ["serve"]
