# The API, and with another command the reaper. No TensorFlow, no Keras, no workers/.
# Build from the repository's root: docker build -f docker/api.Dockerfile .
FROM python:3.12-slim-bookworm AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
WORKDIR /build

# What changes seldom comes first. Every package is a wheel whose hash is locked, so that
# installing runs no code of its own; hatchling makes our wheel, and stays behind in this stage.
COPY docker/build.txt requirements/api.txt ./
RUN python -m venv /opt/hatch \
    && /opt/hatch/bin/pip install --only-binary=:all: --require-hashes -r build.txt \
    && python -m venv /opt/venv \
    && /opt/venv/bin/pip install --only-binary=:all: --require-hashes -r api.txt

# Without workers/ here, the wheel is made without it.
COPY pyproject.toml README.md ./
COPY app ./app
RUN /opt/hatch/bin/hatchling build -t wheel \
    && /opt/venv/bin/pip install --no-deps --no-index dist/*.whl


FROM python:3.12-slim-bookworm

# Matplotlib keeps its list of fonts in a folder; the user has no home.
ENV PATH=/opt/venv/bin:$PATH \
    MPLCONFIGDIR=/tmp/matplotlib \
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
EXPOSE 8000

# Is the process alive? Whether database and broker answer is /readyz's to say: restarting the
# API would not bring them back.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "/opt/secateur/healthcheck.py", "api"]

# Uvicorn drains for at most 5 s after SIGTERM, within Docker's 10.
STOPSIGNAL SIGTERM
CMD ["secateur", "api", "--host", "0.0.0.0", "--port", "8000"]
