# AIA Lens for a lab's server: the same entry point as everywhere, python app.py, as a user who owns nothing but /data.
#
#   docker build -t aia-lens .                                   for CPUs
#   docker build -t aia-lens --build-arg TORCH_INDEX=https://pypi.org/simple .    torch with CUDA; run with --gpus all
#   docker run -p 7860:7860 -v aia-lens:/data aia-lens           OPERATING.md says what can be set
FROM python:3.11-slim

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 \
    OMP_WAIT_POLICY=PASSIVE

WORKDIR /app
COPY requirements.txt .
# torch first, from its own index: what is installed already stays.
RUN pip install --index-url "$TORCH_INDEX" --extra-index-url https://pypi.org/simple "$(grep '^torch==' requirements.txt)" \
    && pip install -r requirements.txt

COPY app.py LICENSE README.md OPERATING.md ./
COPY aia aia
COPY app app
COPY backend backend
COPY assets assets

# Weights from the hub belong to the volume, too: a new container must not fetch them again.
RUN useradd --create-home --uid 1000 lens && install -d -o lens -g lens -m 0700 /data
USER lens
ENV AIA_LENS_HOST=0.0.0.0 AIA_LENS_PORT=7860 AIA_LENS_DATA=/data/aia-lens HF_HOME=/data/huggingface
VOLUME /data
EXPOSE 7860

HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(f'http://127.0.0.1:{os.environ[\"AIA_LENS_PORT\"]}/healthz', timeout=4)"]
STOPSIGNAL SIGTERM
CMD ["python", "app.py"]
