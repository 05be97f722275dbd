# syntax=docker/dockerfile:1
# The worker for machines with an NVIDIA GPU: models run on CUDA with options {provider: cuda} in the recipe (auto falls
# back to the CPU and says so; cuda fails). Build from the repository's root:
#   docker build -f runners/container/cuda.Dockerfile -t REGISTRY/promptmill-cuda:VERSION .
# The host needs a driver for CUDA 13 and the NVIDIA container toolkit.
FROM golang:1.26.0-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=1 go build -trimpath -o /out/promptmill ./cmd/promptmill

# ONNX Runtime with the CUDA and TensorRT providers, of the wheel only its libraries.
FROM python:3.12.11-slim-bookworm AS runtime
ARG ONNXRUNTIME=1.30.0
RUN pip download --no-cache-dir --no-deps --only-binary=:all: --python-version 3.12 --platform manylinux_2_28_x86_64 \
      -d /tmp/wheel "onnxruntime-gpu==${ONNXRUNTIME}" \
 && mkdir -p /out/onnxruntime \
 && python -m zipfile -e /tmp/wheel/*.whl /tmp/unpacked \
 && cp /tmp/unpacked/onnxruntime/capi/libonnxruntime*.so* /out/onnxruntime/ \
 && ln -sf "$(basename /out/onnxruntime/libonnxruntime.so.*)" /out/onnxruntime/libonnxruntime.so

FROM nvidia/cuda:13.0.1-cudnn-runtime-ubuntu24.04
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --create-home --home-dir /home/promptmill promptmill
COPY --from=build /out/promptmill /opt/promptmill/promptmill
COPY --from=runtime /out/onnxruntime /opt/onnxruntime
USER 10001
WORKDIR /home/promptmill
ENV HOME=/home/promptmill \
    LD_LIBRARY_PATH=/opt/onnxruntime:/usr/local/nvidia/lib64:/usr/local/cuda/lib64 \
    PROMPTMILL_ONNXRUNTIME=/opt/onnxruntime/libonnxruntime.so \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
EXPOSE 50000
ENTRYPOINT ["/opt/promptmill/promptmill"]
