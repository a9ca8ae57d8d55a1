# The service of `unlike` on a CPU: docker build -t unlike . && docker run -p 127.0.0.1:8000:8000 -v unlike:/data unlike
FROM python:3.13-slim-bookworm AS build

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/unlike
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
# torch for processors alone: a tenth of what comes with CUDA
RUN /opt/unlike/bin/pip install --extra-index-url https://download.pytorch.org/whl/cpu ".[serve,postgresql,export,formats,demo]"

FROM python:3.13-slim-bookworm

RUN groupadd --gid 10001 unlike \
    && useradd --uid 10001 --gid unlike --no-log-init --create-home unlike \
    && install --directory --owner=unlike --group=unlike /data /images
COPY --from=build /opt/unlike /opt/unlike
ENV PATH=/opt/unlike/bin:$PATH \
    UNLIKE_CACHE=/data/.cache \
    OMP_WAIT_POLICY=PASSIVE \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /data
VOLUME ["/data", "/images"]
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
# Reached from outside the container, so it takes users: docker run -it ... unlike serve /data --add-user NAME --role admin
ENTRYPOINT ["unlike"]
CMD ["serve", "/data", "--host", "0.0.0.0", "--images", "/images"]
