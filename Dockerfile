#   docker build -t mvllm .
#   docker run -p 8888:8888 -v ./config:/etc/mvllm:ro mvllm     with config/servers.toml in place

# Both stages are of one Debian release, and so have the same C library.
ARG DEBIAN=bookworm
ARG RUST=1.95

FROM rust:${RUST}-slim-${DEBIAN} AS builder
WORKDIR /src
# For jemalloc.
RUN apt-get update && apt-get install --yes --no-install-recommends make && rm -rf /var/lib/apt/lists/*

# The dependencies, against empty crates: a layer that lasts until a manifest or the lock changes.
COPY Cargo.toml Cargo.lock ./
COPY crates/core/Cargo.toml crates/core/
COPY crates/sim/Cargo.toml crates/sim/
COPY crates/mvllm/Cargo.toml crates/mvllm/
RUN mkdir crates/core/src crates/sim/src crates/mvllm/src \
    && touch crates/core/src/lib.rs crates/sim/src/lib.rs crates/mvllm/src/lib.rs \
    && echo 'fn main() {}' > crates/mvllm/src/main.rs \
    && cargo build --release --locked --package mvllm

COPY crates crates
# Cargo goes by modification times, and the sources may be older than the empty crates just built.
RUN find crates -name '*.rs' -exec touch {} + \
    && cargo build --release --locked --package mvllm

FROM debian:${DEBIAN}-slim
# For https:// servers. The builder has them already, so nothing is to be installed.
COPY --from=builder /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=builder /src/target/release/mvllm /usr/local/bin/mvllm

# A volume that is mounted here belongs to the user below. Without one logs go to standard output.
RUN install -d -o 65532 -g 65532 /var/log/mvllm
ENV LOG_DIR=none

# By number: Kubernetes' runAsNonRoot does not look names up.
USER 65532:65532
EXPOSE 8888
STOPSIGNAL SIGTERM

# Whether the process is alive, not whether a server is: restarting mvllm would bring none back.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 CMD ["mvllm", "health"]

CMD ["mvllm", "run", "--console", "--config", "/etc/mvllm/servers.toml"]
