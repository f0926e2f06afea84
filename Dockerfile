# The lock on a CPU, and JupyterLab:
#   docker build -t act2see .
#   docker run --rm -p 127.0.0.1:8888:8888 act2see
FROM python:3.11-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home reader
USER reader
WORKDIR /home/reader/act2see
# Before the code, so that a change of code installs nothing again.
COPY --chown=reader requirements.lock ./
RUN python -m venv .venv \
    && .venv/bin/pip install --no-cache-dir -r requirements.lock \
       --extra-index-url https://download.pytorch.org/whl/cpu
COPY --chown=reader . .
# `make` takes the environment for installed while this file is the newest.
RUN .venv/bin/pip install --no-cache-dir --no-deps -e . && touch .venv/installed
EXPOSE 8888
CMD [".venv/bin/jupyter", "lab", "--ip=0.0.0.0", "--no-browser"]
