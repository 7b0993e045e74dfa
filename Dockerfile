# One static binary and nothing else: no shell, no libc, no certificates but those
# inside the binary. Needs BuildKit, as docker build uses by default, and no frontend
# from a registry.
#
# GO_IMAGE pins the compiler: the same one makes the same binary, byte for byte.
ARG GO_IMAGE=golang:1.26

# The compiler runs on the builder's own platform, whatever it compiles for.
FROM --platform=$BUILDPLATFORM ${GO_IMAGE} AS build
WORKDIR /src
COPY . .
ARG VERSION=unknown
ARG COMMIT=unknown
ARG TARGETOS
ARG TARGETARCH
# As "make build" does it. The cache has modules only, and go.sum vouches for them.
RUN --mount=type=cache,target=/go/pkg/mod \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -buildvcs=false \
      -ldflags "-s -w -X questdb-ilp-proxy/proxy/cli.version=$VERSION -X questdb-ilp-proxy/proxy/cli.commit=$COMMIT" \
      -o /out/questdb-ilp-proxy . && \
    mkdir -m 0700 /out/state

FROM scratch
ARG VERSION=unknown
ARG COMMIT=unknown
LABEL org.opencontainers.image.title="questdb-ilp-proxy" \
      org.opencontainers.image.description="Lets writers without authentication write to a QuestDB that demands it" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$COMMIT"
COPY LICENSE /LICENSE
COPY --from=build /out/questdb-ilp-proxy /questdb-ilp-proxy
# For a volume that keeps ILP_REJECTED_FILE or a key: a new one takes over the owner.
COPY --from=build --chown=65532:65532 /out/state /var/lib/questdb-ilp-proxy
USER 65532:65532
EXPOSE 9009/tcp 9090/tcp
HEALTHCHECK --interval=10s --timeout=5s CMD ["/questdb-ilp-proxy", "health"]
ENTRYPOINT ["/questdb-ilp-proxy"]
