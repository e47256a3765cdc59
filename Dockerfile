FROM python:3.13-slim

# The state directory must exist before a volume is mounted there: the volume takes its owner over.
RUN useradd --system --create-home --home-dir /var/lib/matrix-sync matrix \
 && install -d -o matrix -g matrix /var/lib/matrix-sync/state
WORKDIR /opt/matrix-sync
COPY . .
RUN pip install --no-cache-dir .

USER matrix
WORKDIR /var/lib/matrix-sync
ENTRYPOINT ["matrix-sync"]
CMD ["--help"]
