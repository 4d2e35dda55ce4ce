# Images of RLU; scripts/build_images.sh builds them and says what it needs.
#
#   gateway       gateway and attestor: an interpreter, RLU and the libraries they load; no shell, no package manager
#   engine-cpu    vLLM's CPU build and the lock, for trying RLU
#   engine-cuda   vLLM's own image and the lock
#   engine-rocm   the same for AMD
#
# Every image is run as a user without privileges, on a read-only root. No heredocs: buildah 1.28 has none.
# Pin the bases by digest where you build for production: --build-arg PYTHON_IMAGE=...@sha256:...
ARG PYTHON_IMAGE=docker.io/library/python:3.11-slim-bookworm
ARG CUDA_IMAGE=docker.io/vllm/vllm-openai:v0.32.0
ARG ROCM_IMAGE=docker.io/vllm/vllm-openai-rocm:v0.32.0

# --- the gateway's root, put together from what it needs ---
FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore \
    SOURCE_DATE_EPOCH=0 PYTHONHASHSEED=0 PYTHONDONTWRITEBYTECODE=1 DEBIAN_FRONTEND=noninteractive \
    CFLAGS=-g0 LDFLAGS=-Wl,--build-id=none
# The last two: debugging information would name pip's temporary directory, which is another each time.
RUN apt-get update && apt-get install -y --no-install-recommends \
    ca-certificates gcc libc6-dev libffi-dev libtss2-dev libtss2-tcti-device0 libtss2-tcti-swtpm0 pkg-config python3-dev python3-venv
WORKDIR /src
COPY requirements/server.txt requirements/image.txt requirements/
# The second environment makes the list of what is in the first, and stays behind.
RUN python3 -m venv /opt/rlu && /opt/rlu/bin/pip install --no-deps -r requirements/server.txt \
    && python3 -m venv /opt/sbom && /opt/sbom/bin/pip install --no-deps -r requirements/image.txt
COPY pyproject.toml README.md LICENSE ./
COPY attestation attestation
COPY server server
RUN /opt/rlu/bin/pip install --no-deps . && rm -rf /opt/rlu/lib/python3*/site-packages/rlu-*.dist-info/direct_url.json
COPY scripts/image_root.py scripts/
RUN /opt/sbom/bin/cyclonedx-py environment --output-reproducible --of JSON -o /opt/rlu.cdx.json /opt/rlu \
    && /opt/rlu/bin/pip uninstall -q -y pip setuptools; python3 scripts/image_root.py /opt/rlu /opt/rlu.cdx.json /image

FROM scratch AS gateway
LABEL org.opencontainers.image.title="rlu gateway" org.opencontainers.image.licenses="Apache-2.0" dev.rlu.sbom="/usr/share/sbom"
COPY --from=build /image/ /
ENV PATH=/opt/rlu/bin:/usr/local/bin:/usr/bin LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
ENTRYPOINT ["rlu"]

# --- engines ---
FROM ${PYTHON_IMAGE} AS engine-cpu
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore DEBIAN_FRONTEND=noninteractive
RUN apt-get update && apt-get install -y --no-install-recommends libnuma1 python3-venv && rm -rf /var/lib/apt/lists /var/log /var/cache
WORKDIR /src
COPY requirements/server.txt requirements/engine-cpu.txt requirements/
# PyTorch's CPU build comes from an index of its own: RLU_TORCH_INDEX, as in scripts/setup.sh.
ARG RLU_TORCH_INDEX=
RUN python3 -m venv /opt/rlu && /opt/rlu/bin/pip install --no-deps ${RLU_TORCH_INDEX:+--index-url "$RLU_TORCH_INDEX"} torch==2.13.0
# Engines have no TPM: its binding, which has to be compiled, stays out.
RUN grep -v '^tpm2-pytss' requirements/server.txt >/tmp/server.txt && /opt/rlu/bin/pip install --no-deps -r requirements/engine-cpu.txt \
    && /opt/rlu/bin/pip install --no-deps -r /tmp/server.txt && rm /tmp/server.txt
COPY pyproject.toml README.md LICENSE ./
COPY attestation attestation
COPY server server
RUN /opt/rlu/bin/pip install --no-deps . && rm -rf /src && mkdir -p /run/rlu && chmod 1777 /run/rlu
WORKDIR /
LABEL org.opencontainers.image.title="rlu engine, CPU" org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/opt/rlu/bin:/usr/local/bin:/usr/bin:/bin LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1
USER 10002:10001
ENTRYPOINT ["rlu"]

# vLLM keeps its own interpreter and packages, untouched; RLU has an environment of its own beside it.
FROM ${CUDA_IMAGE} AS engine-cuda
USER root
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY requirements/server.txt requirements/
RUN python3 -m venv --without-pip /opt/rlu && grep -v '^tpm2-pytss' requirements/server.txt >/tmp/server.txt \
    && python3 -m pip --python /opt/rlu/bin/python install --no-deps -r /tmp/server.txt && rm /tmp/server.txt
COPY pyproject.toml README.md LICENSE ./
COPY attestation attestation
COPY server server
RUN python3 -m pip --python /opt/rlu/bin/python install --no-deps . && rm -rf /src && mkdir -p /run/rlu && chmod 1777 /run/rlu
WORKDIR /
LABEL org.opencontainers.image.title="rlu engine, CUDA" org.opencontainers.image.licenses="Apache-2.0"
# The image's own `python3` is the engine's.
RUN ln -s /opt/rlu/bin/rlu /usr/local/bin/rlu
ENV RLU_ENGINE__PYTHON=python3 LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1
USER 10002:10001
ENTRYPOINT ["rlu"]

FROM ${ROCM_IMAGE} AS engine-rocm
USER root
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY requirements/server.txt requirements/
RUN python3 -m venv --without-pip /opt/rlu && grep -v '^tpm2-pytss' requirements/server.txt >/tmp/server.txt \
    && python3 -m pip --python /opt/rlu/bin/python install --no-deps -r /tmp/server.txt && rm /tmp/server.txt
COPY pyproject.toml README.md LICENSE ./
COPY attestation attestation
COPY server server
RUN python3 -m pip --python /opt/rlu/bin/python install --no-deps . && rm -rf /src && mkdir -p /run/rlu && chmod 1777 /run/rlu
WORKDIR /
LABEL org.opencontainers.image.title="rlu engine, ROCm" org.opencontainers.image.licenses="Apache-2.0"
RUN ln -s /opt/rlu/bin/rlu /usr/local/bin/rlu
ENV RLU_ENGINE__PYTHON=python3 LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1
USER 10002:10001
ENTRYPOINT ["rlu"]
