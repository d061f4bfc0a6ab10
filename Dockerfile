# The public slim image; another base with Python 3.11 or later goes in by --build-arg BASE=…
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
# Where packages come from, and a CA file to trust meanwhile (mounted, not copied), where the build machine
# needs either. Neither is left in the image.
ARG PIP_INDEX_URL
ARG PIP_CERT
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
RUN python3 -m venv /opt/conversion-guard
COPY requirements.lock .
RUN /opt/conversion-guard/bin/pip install --require-hashes --no-deps --no-compile -r requirements.lock
# The kubernetes package is 126 MB of generated models and calls. Requests are sent and read raw here, by its
# configuration and transport alone; it imports the others only when one is named.
RUN cd /opt/conversion-guard/lib/python3.*/site-packages/kubernetes \
 && find client aio/client -type f '(' -path '*/models/*' -o -path '*/api/*' ')' ! -name __init__.py -delete
COPY webhook webhook
# Compiled here, for the file system is read-only where it runs. The package is copied, not installed:
# it has no data outside its own folder, and the lock file has all that it imports.
RUN cp -r webhook /opt/conversion-guard/lib/python3.*/site-packages/ \
 && /opt/conversion-guard/bin/pip uninstall --yes pip setuptools \
 && python3 -m compileall -q /opt/conversion-guard/lib
# What was left out and is needed after all fails here, not in a cluster: every module is imported, the
# cluster's client asks a server, and real reviews go through a real one.
COPY tests/image_complete.py .
RUN /opt/conversion-guard/bin/python image_complete.py \
 && /opt/conversion-guard/bin/python -m webhook demo --all > demo.txt || { cat demo.txt; exit 1; }

FROM ${BASE}
COPY --from=build /opt/conversion-guard /opt/conversion-guard
USER 65532:65532
EXPOSE 8443 8080
ENV PYTHONDONTWRITEBYTECODE=1
ENTRYPOINT ["/opt/conversion-guard/bin/python", "-m", "webhook"]
CMD ["serve"]
