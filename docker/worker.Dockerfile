# A worker: takes jobs from the broker and runs each in a confined process of its own.
# Build from the repository's root: docker build -f docker/worker.Dockerfile .
FROM python:3.12-slim-bookworm AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
WORKDIR /build

# What changes seldom comes first. Every package is a wheel whose hash is locked, so that
# installing runs no code of its own; hatchling makes our wheel, and stays behind in this stage.
COPY docker/build.txt requirements/worker.txt ./
RUN python -m venv /opt/hatch \
    && /opt/hatch/bin/pip install --only-binary=:all: --require-hashes -r build.txt \
    && python -m venv /opt/venv \
    && /opt/venv/bin/pip install --only-binary=:all: --require-hashes -r worker.txt

# Installed, not put on PYTHONPATH: a job's process runs isolated (python -I), and ignores it.
COPY pyproject.toml README.md ./
COPY app ./app
COPY workers ./workers
RUN /opt/hatch/bin/hatchling build -t wheel \
    && /opt/venv/bin/pip install --no-deps --no-index dist/*.whl


FROM python:3.12-slim-bookworm

ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SECATEUR_DATA_DIR=/var/lib/secateur

# A new named volume takes over this folder's owner. Both images use the same user, because API
# and workers share the volume.
RUN groupadd --gid 10001 secateur \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent \
        --shell /usr/sbin/nologin secateur \
    && install --directory --owner=10001 --group=10001 --mode=0750 /var/lib/secateur

COPY --from=build /opt/venv /opt/venv
# Python looks for modules in the working folder: only root may write there, not a job.
WORKDIR /opt/secateur
COPY docker/healthcheck.py ./

USER 10001:10001
VOLUME ["/var/lib/secateur"]

# Asks this container's own worker through the broker: some 2 s of CPU time a minute.
HEALTHCHECK --interval=60s --timeout=20s --start-period=60s --retries=3 \
    CMD ["python", "/opt/secateur/healthcheck.py", "worker"]

# SIGTERM hands a running job back to the queue. Give it 30 s: docker run --stop-timeout 30.
STOPSIGNAL SIGTERM
CMD ["secateur", "worker"]
