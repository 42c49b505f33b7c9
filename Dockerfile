# Tidegate in a container: build with `docker build -t tidegate .`, run with `docker compose up` (see compose.yaml).
# Everything is installed from the hash locks; the image runs as an ordinary user and writes only to /data.

FROM python:3.13-slim-trixie AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /build
COPY requirements/run.txt requirements/build.txt requirements/
RUN python -m venv /app && /app/bin/pip install --require-hashes --no-deps -r requirements/run.txt
RUN python -m venv /tools && /tools/bin/pip install --require-hashes --no-deps -r requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN /tools/bin/python -m hatchling build --target wheel --directory /dist \
    && /app/bin/pip install --no-deps --no-index /dist/*.whl \
    && /app/bin/pip uninstall --yes pip

FROM python:3.13-slim-trixie
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin tidegate \
    && install --directory --owner=tidegate --group=tidegate --mode=0750 /data /etc/tidegate
COPY --from=build /app /app

# A container is reached from outside itself, so it listens on all its addresses. There Tidegate starts only with a key:
# give one as TIDEGATE_KEY (at least 32 characters), or [[keys]] in /etc/tidegate/tidegate.toml.
ENV PATH=/app/bin:$PATH TIDEGATE_HOST=0.0.0.0 TIDEGATE_PORT=8080 TIDEGATE_DATA=/data
# tidegate.toml is looked for in the working directory.
WORKDIR /etc/tidegate
VOLUME /data
EXPOSE 8080
USER 10001:10001
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.build_opener(r.ProxyHandler({})).open('http://127.0.0.1:' + os.environ['TIDEGATE_PORT'] + '/healthz', timeout=2)"]
ENTRYPOINT ["tidegate"]
CMD ["serve"]
