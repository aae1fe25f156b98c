# syntax=docker/dockerfile:1.7
# Two images: `docker build --target cuda -t lingbot-serve:0.1.0-cuda .`, and `--target cpu` likewise.
# Every Python package has the version that constraints.txt names.
ARG PYTHON=3.12.12-slim-bookworm

FROM python:${PYTHON} AS wheel
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY autoscaling autoscaling
COPY cluster cluster
COPY deployments deployments
COPY docs/benchmarks docs/benchmarks
COPY lingbot_serve lingbot_serve
COPY model model
COPY monitoring monitoring
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:${PYTHON} AS base
# bash, wget and pgrep are what the probes of KubeRay and of k8s/ use; torch.compile needs a C compiler.
# Debian keeps no older versions of a package to pin: the base image's tag is the pin.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends bash gcc libc6-dev procps wget \
 && rm -rf /var/lib/apt/lists/*
RUN groupadd --gid 10001 lingbot \
 && useradd --uid 10001 --gid lingbot --create-home lingbot \
 && install --directory --owner=lingbot --group=lingbot \
    /var/cache/lingbot-serve /var/lib/lingbot-serve /models
# The root file system is read-only on a cluster: what is compiled goes where a volume is mounted.
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    RAY_USAGE_STATS_ENABLED=0 \
    XDG_CACHE_HOME=/var/cache/lingbot-serve \
    TORCHINDUCTOR_CACHE_DIR=/var/cache/lingbot-serve/inductor \
    TRITON_CACHE_DIR=/var/cache/lingbot-serve/triton \
    CUDA_CACHE_PATH=/var/cache/lingbot-serve/cuda
WORKDIR /home/lingbot

FROM base AS cpu
# PyPI has the CUDA build alone; what torch needs beside it comes with the wheel below.
RUN --mount=type=bind,source=constraints.txt,target=/constraints.txt \
    pip install --no-cache-dir --no-deps --constraint /constraints.txt \
      --index-url https://download.pytorch.org/whl/cpu torch
RUN --mount=type=bind,source=constraints.txt,target=/constraints.txt \
    --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    pip install --no-cache-dir --constraint /constraints.txt \
      "lingbot-serve[postgres] @ file:///wheels/lingbot_serve-0.1.0-py3-none-any.whl"
USER 10001:10001
CMD ["lingbot-serve", "--help"]

FROM base AS cuda
# The driver comes from the node; PyPI's torch brings the CUDA libraries. Which GPUs a container sees is
# for whoever starts it to say: a default of all would show them to pods that asked for none.
ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility
RUN --mount=type=bind,source=constraints.txt,target=/constraints.txt \
    --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    pip install --no-cache-dir --constraint /constraints.txt \
      "lingbot-serve[gpu,postgres] @ file:///wheels/lingbot_serve-0.1.0-py3-none-any.whl"
USER 10001:10001
CMD ["lingbot-serve", "--help"]
