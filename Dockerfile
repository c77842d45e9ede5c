# syntax=docker/dockerfile:1
# Two images from one file: `web` (API, loops, migrations; no torch) and `worker` (torch and transformers).
ARG PYTHON=3.11

FROM python:${PYTHON}-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
WORKDIR /src
# requirements.loc[k]: a pattern, so that a checkout without a lock builds as well.
COPY pyproject.toml README.md requirements.loc[k] ./
COPY api ./api
COPY cli ./cli
COPY core ./core
COPY migrations ./migrations
COPY worker ./worker

FROM build AS build-web
# The package is this folder, under the lock's constraints.
# hadolint ignore=DL3013
RUN if [ -f requirements.lock ]; then export PIP_CONSTRAINT=requirements.lock; fi && pip install '.[tracing]'

FROM build AS build-worker
# torch's default build carries CUDA. For a smaller CPU image name torch's own package index of CPU builds:
#   docker compose build --build-arg TORCH_INDEX=…   (the address is in torch's installation guide)
ARG TORCH_INDEX=
# hadolint ignore=DL3013 # what is installed is this checkout; the lock pins the rest
RUN if [ -f requirements.lock ]; then export PIP_CONSTRAINT=requirements.lock; fi \
    && pip install ${TORCH_INDEX:+--extra-index-url "${TORCH_INDEX}"} '.[worker,tracing]'

FROM python:${PYTHON}-slim-bookworm AS runtime
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 UNLEARN_LOG_JSON=true MPLCONFIGDIR=/tmp/matplotlib
RUN groupadd --gid 10001 unlearn \
    && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin unlearn \
    && install --directory --owner 10001 --group 10001 --mode 0700 /scratch
ARG COMMIT=
ENV UNLEARN_COMMIT=${COMMIT}
WORKDIR /srv
USER 10001:10001

FROM runtime AS web
COPY --from=build-web /opt/venv /opt/venv
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=6 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
CMD ["python", "-m", "api"]

FROM runtime AS worker
COPY --from=build-worker /opt/venv /opt/venv
ENV HOME=/tmp HF_HUB_OFFLINE=1 OMP_WAIT_POLICY=passive
CMD ["python", "-m", "worker"]
