# The image: one binary with the libraries it is linked with, no shell, not root.
#
#   docker build --build-arg REVISION="$(git rev-parse HEAD)" -t ruvvector-service:0.1.0 .
#   docker run -e RUVVECTOR_STORE=sqlite -v telemetry:/data -p 3100:3100 -p 4318:4318 -p 4317:4317 ruvvector-service:0.1.0
#
# RUVVECTOR_STORE has to be given: `postgres`, with DATABASE_URL or POSTGRES_HOST beside it, or `sqlite`.
# A digest, or a registry of yours: --build-arg RUST=registry.example.com/rust:1.95-bookworm@sha256:…
ARG RUST=rust:1.95-bookworm

FROM ${RUST} AS build
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
COPY benches benches
COPY migrations migrations
COPY src src
COPY tests tests
COPY scripts/operate/container-root.sh scripts/operate/
ARG REVISION=unknown
RUN RUVVECTOR_REVISION="$REVISION" cargo build --release --locked --bin ruvvector-service \
    && scripts/operate/container-root.sh target/release/ruvvector-service /root-of-image \
    && mkdir /data-of-image

FROM scratch
ARG REVISION=unknown
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="RuvVector Service" \
      org.opencontainers.image.description="OTLP-compatible collector: durable before it answers, exactly once into PostgreSQL or SQLite" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
COPY --from=build /root-of-image/ /
# A new named volume is a copy of this directory: empty, owned by the service's user.
COPY --from=build --chown=65532:65532 /data-of-image /data
# An invalid name of a store makes a start without a store an error: a misspelt DATABASE_URL does not fill the container's layer.
ENV RUVVECTOR_STORE=not-named \
    RUVVECTOR_BIND=[::] \
    RUVVECTOR_DATA_DIR=/data
USER 65532:65532
WORKDIR /data
VOLUME /data
EXPOSE 3100 4317 4318
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s --retries=3 CMD ["/usr/bin/ruvvector-service", "healthcheck"]
ENTRYPOINT ["/usr/bin/ruvvector-service"]
