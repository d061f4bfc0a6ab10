# The public slim image; another base with Python 3.11 or later goes in by --build-arg BASE=…
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
# A CA file to trust while packages are fetched, where the build machine needs one (mounted, not copied).
ARG PIP_CERT
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
RUN python3 -m venv /opt/conversion-guard
COPY requirements.lock .
RUN /opt/conversion-guard/bin/pip install --require-hashes --no-deps -r requirements.lock
COPY webhook webhook
# Compiled here, for the file system is read-only where it runs. The package is copied, not installed:
# it has no data outside its own folder, and the lock file has all that it imports.
RUN cp -r webhook /opt/conversion-guard/lib/python3.*/site-packages/ \
 && /opt/conversion-guard/bin/pip uninstall --yes pip setuptools \
 && python3 -m compileall -q /opt/conversion-guard/lib

FROM ${BASE}
COPY --from=build /opt/conversion-guard /opt/conversion-guard
USER 65532:65532
EXPOSE 8443 8080
ENV PYTHONDONTWRITEBYTECODE=1
ENTRYPOINT ["/opt/conversion-guard/bin/python", "-m", "webhook"]
CMD ["serve"]
