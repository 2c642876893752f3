# One image for all services. Its argument selects one: gateway, processor, exporter, serve, topics …

FROM python:3.11-slim-bookworm AS build
WORKDIR /src
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/tobogganing
COPY requirements/runtime.txt requirements/
# Wheels only: building a package would download build tools that are not pinned.
RUN /opt/tobogganing/bin/pip install --require-hashes --only-binary :all: -r requirements/runtime.txt
COPY pyproject.toml ./
COPY contract contract
COPY service service
COPY gateway gateway
COPY processor processor
COPY exporter exporter
COPY tobogganing tobogganing
RUN /opt/tobogganing/bin/pip install --no-deps --no-build-isolation .

FROM python:3.11-slim-bookworm
# Named volumes inherit owner and mode of the folders on which they are mounted.
RUN groupadd --gid 10001 tobogganing \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent tobogganing \
    && install -d -o 10001 -g 10001 -m 0750 /var/lib/tobogganing \
    && install -d -o 10001 -g 10001 -m 0700 /var/lib/tobogganing/secrets \
    && install -d -o 10001 -g 10001 -m 0750 /var/lib/tobogganing/scraper \
    && install -d -o 10001 -g 10001 -m 0750 /var/lib/tobogganing/tls \
    && install -d -o 10001 -g 10001 -m 0700 /var/lib/tobogganing/workers
COPY --from=build /opt/tobogganing /opt/tobogganing
ENV PATH=/opt/tobogganing/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
ENTRYPOINT ["tobogganing"]
CMD ["--help"]
