# suture in a container.
#   docker build -t suture .                              CUDA (run with --gpus all), and the CPU
#   docker build -t suture --build-arg INDEX=ADDRESS .    another build of PyTorch, from that index
#   docker run --rm -v "$PWD:/work" suture audit model.onnx --data pictures/ --size 32 --eps 8/255
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:${PYTHON}-slim
# Where PyTorch's build comes from; none: what pip brings. constraints.txt pins all versions.
ARG INDEX=none
ARG EXTRAS=export,timm,ray
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1 \
    NUMBA_CACHE_DIR=/tmp/numba SUTURE_DATA=/data
# Numba and torch share one OpenMP runtime.
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/*
COPY constraints.txt /tmp/constraints.txt
RUN if [ "${INDEX}" != none ]; then \
        grep -E '^(torch|torchvision)==' /tmp/constraints.txt > /tmp/torch.txt \
        && pip install --index-url "${INDEX}" -r /tmp/torch.txt; fi
COPY --from=build /wheels /wheels
RUN pip install -c /tmp/constraints.txt "$(ls /wheels/suture-*.whl)[${EXTRAS}]" && rm -r /wheels
RUN useradd --create-home suture && mkdir /work /data && chown suture /work /data
USER suture
WORKDIR /work
ENTRYPOINT ["suture"]
CMD ["doctor"]
