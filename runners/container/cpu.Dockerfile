# syntax=docker/dockerfile:1
# The worker (and launcher) for machines without a GPU. Build from the repository's root:
#   docker build -f runners/container/cpu.Dockerfile -t REGISTRY/promptmill:VERSION .
# As a worker of docker environments and of Dataflow the entry point gets Beam's arguments and is the worker.
# The launcher checks the worker's file: name the image's file in engine.worker_binary
#   docker create --name pm IMAGE && docker cp pm:/opt/promptmill/promptmill ./promptmill-worker
FROM golang:1.26.0-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=1 go build -trimpath -o /out/promptmill ./cmd/promptmill

# ONNX Runtime as PyPI has it; promptmill pins and checks its digest.
FROM python:3.12.11-slim-bookworm AS runtime
COPY --from=build /out/promptmill /out/promptmill
RUN HOME=/out /out/promptmill doctor --install

FROM debian:12.11-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --create-home --home-dir /home/promptmill promptmill
COPY --from=build /out/promptmill /opt/promptmill/promptmill
COPY --from=runtime --chown=10001:10001 /out/.cache /home/promptmill/.cache
USER 10001
WORKDIR /home/promptmill
ENV HOME=/home/promptmill
EXPOSE 50000
ENTRYPOINT ["/opt/promptmill/promptmill"]
