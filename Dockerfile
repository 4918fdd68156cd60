# The book with all that it needs: docker build -t companion . && docker run --rm -it -p 8888:8888 companion
# prints the address of a JupyterLab in which the pages of the experiments open as notebooks.

# What .ci/run installs on a bare Debian. The devcontainer needs no more.
FROM debian:bookworm-slim AS system
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
        bubblewrap ca-certificates chromium git make npm python3-venv \
    && rm -rf /var/lib/apt/lists/*

FROM system AS companion
RUN useradd --create-home reader && install --directory --owner reader /companion
USER reader
WORKDIR /companion
COPY --chown=reader . .
ENV PIP_NO_CACHE_DIR=1 PATH=/companion/.venv/bin:$PATH
RUN make .venv/extras
RUN ./postBuild
EXPOSE 8888
CMD ["jupyter", "lab", "--ip=0.0.0.0", "--no-browser"]
