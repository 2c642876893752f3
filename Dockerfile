# One image for all services. Its argument selects one: gateway, processor, exporter, serve, topics …
# For any platform that has the base image and wheels of the pinned packages (docker buildx build --platform …).

FROM python:3.11-slim-bookworm AS build
WORKDIR /src
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/tobogganing
COPY requirements/build.txt requirements/runtime.txt requirements/
RUN /opt/tobogganing/bin/pip install --require-hashes --only-binary :all: -r requirements/build.txt
# Faust has wheels for x86-64 only. Elsewhere its source is built, without Cython and so without a compiler. All other
# packages must have a wheel. Without build isolation, nothing is downloaded that is not pinned.
RUN NO_CYTHON=1 /opt/tobogganing/bin/pip install --require-hashes --no-build-isolation -r requirements/runtime.txt
COPY pyproject.toml README.md LICENSE ./
COPY contract contract
COPY service service
COPY gateway gateway
COPY processor processor
COPY exporter exporter
COPY tobogganing tobogganing
# The services install nothing.
RUN /opt/tobogganing/bin/pip install --no-deps --no-build-isolation . \
    && /opt/tobogganing/bin/pip uninstall --yes setuptools setuptools-scm vcs-versioning pip

FROM python:3.11-slim-bookworm
ARG VERSION=0.2.0
ARG REVISION=
LABEL org.opencontainers.image.title="tobogganing-metrics" \
      org.opencontainers.image.description="Metrics of Tobogganing's clients and headends, through Kafka to Prometheus" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.licenses="Apache-2.0"
# Named volumes inherit owner and mode of the folders on which they are mounted.
RUN groupadd --gid 10001 tobogganing \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent tobogganing \
    && install -d -o 10001 -g 10001 -m 0750 /var/lib/tobogganing \
    && install -d -o 10001 -g 10001 -m 0700 /var/lib/tobogganing/secrets \
    && install -d -o 10001 -g 10001 -m 0750 /var/lib/tobogganing/scraper \
    && install -d -o 10001 -g 10001 -m 0750 /var/lib/tobogganing/tls \
    && install -d -o 10001 -g 10001 -m 0700 /var/lib/tobogganing/workers
COPY --from=build /opt/tobogganing /opt/tobogganing
COPY deploy/healthcheck.sh /opt/tobogganing/bin/healthcheck
RUN chmod 0755 /opt/tobogganing/bin/healthcheck
ENV PATH=/opt/tobogganing/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PORT=8000
USER 10001:10001
HEALTHCHECK --interval=5s --timeout=5s --retries=3 --start-period=180s CMD ["healthcheck"]
ENTRYPOINT ["tobogganing"]
CMD ["--help"]
