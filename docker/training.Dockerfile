# Pretraining, export and verification. torch comes from the lock file with its CUDA 13 libraries as wheels: the base needs
# nothing but Python, and the host nothing but the driver. Without a GPU the same image runs on the CPU.
ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1
RUN python3 -m venv /opt/build && python3 -m venv --without-pip /opt/bootleg
COPY docker/requirements-build.lock docker/requirements-training.lock /locks/
RUN /opt/build/bin/pip install --require-hashes --only-binary :all: -r /locks/requirements-build.lock
# Not compiled: thousands of torch's modules are never imported.
RUN /opt/build/bin/pip --python /opt/bootleg/bin/python3 install --no-compile --require-hashes --only-binary :all: \
    -r /locks/requirements-training.lock
WORKDIR /src
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY bundle bundle
COPY service service
COPY training training
COPY export export
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
 && /opt/build/bin/pip --python /opt/bootleg/bin/python3 install --no-deps /wheels/*.whl \
 && /opt/build/bin/pip --python /opt/bootleg/bin/python3 check

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="Bootleg Vision training" org.opencontainers.image.licenses="Apache-2.0"
# torch.compile, which runs on CUDA have on by default, builds small launchers with a compiler.
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
# /runs is a volume that takes its owner from this folder; caches of torch go to the writable /tmp.
RUN useradd --system --uid 10001 --user-group --no-create-home --home-dir /tmp bootleg \
 && install -d -o 10001 -g 10001 /runs
COPY --from=build /opt/bootleg /opt/bootleg
ENV PATH=/opt/bootleg/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
USER 10001
WORKDIR /runs
STOPSIGNAL SIGTERM
ENTRYPOINT ["bootleg"]
CMD ["train", "--help"]
