#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Lays the stack out on a Debian 13 host, every server clean and running: install.sh FOLDER
# FOLDER holds this application, and beside it what no archive of Debian has: standins, clients and jars.
# Ingestion and the stack's own files come with the word `seeded`; without it the host waits for a restore.
set -eu
from=$1 word=${2:-} app=$1/inteligencia
export DEBIAN_FRONTEND=noninteractive

unit() { # name, user, its lines
    printf '[Unit]\nAfter=network.target %s\n[Service]\nUser=%s\nRestart=on-failure\nRestartSec=1\n%s\n[Install]\nWantedBy=multi-user.target\n' \
        "${4:-}" "$2" "$3" >"/etc/systemd/system/$1.service"
}

account() { id "$1" >/dev/null 2>&1 || useradd --system --home-dir "$2" --shell /usr/sbin/nologin "$1"; install -d -o "$1" -g "$1" -m 750 "$2"; }

account qdrant /var/lib/qdrant
unit qdrant qdrant "Environment=PYTHONPATH=$from/clients/qdrant QDRANT__SERVICE__HTTP_PORT=6333 QDRANT__SERVICE__API_KEY=qdrant-key-of-the-stack QDRANT__STORAGE__STORAGE_PATH=/var/lib/qdrant/storage QDRANT__STORAGE__SNAPSHOTS_PATH=/var/lib/qdrant/snapshots
ExecStart=/usr/bin/python3 $from/standins/qdrant_server.py"

account mongodb /var/lib/mongodb
unit mongod-backend mongodb "ExecStart=/usr/bin/java -Xmx256m -cp '$from/jars/*' de.bwaldvogel.mongo.H2MongoServer /var/lib/mongodb/documents"
unit mongod mongodb "ExecStart=/usr/bin/python3 $from/standins/mongodb_server.py --listen 127.0.0.1:27117 --backend 127.0.0.1:27017 --state /var/lib/mongodb/catalog --replica-set rs0" mongod-backend.service

account grafana /var/lib/grafana
install -d /etc/grafana/provisioning/dashboards /etc/grafana/provisioning/datasources
if [ ! -e /etc/grafana/grafana.ini ]; then
    install -m 640 -g grafana /dev/null /etc/grafana/grafana.ini
    cat >/etc/grafana/grafana.ini <<INI
[server]
http_addr = 127.0.0.1
http_port = 3000
[security]
admin_user = admin
admin_password = grafana-password-of-the-stack
secret_key = grafana-secret-key-of-the-stack
[paths]
provisioning = /etc/grafana/provisioning
INI
fi
unit grafana-server grafana "ExecStart=/usr/bin/python3 $from/standins/grafana.py server --config=/etc/grafana/grafana.ini"

account langsmith /var/lib/langsmith
unit langsmith langsmith "Environment=LANGSMITH_STANDIN_KEYS=lsv2_key_of_the_stack
ExecStart=/usr/bin/python3 $from/standins/langsmith.py --port 1984 --state /var/lib/langsmith"

sed -i 's/^# *requirepass .*/requirepass redis-password-of-the-stack/; s/^appendonly no/appendonly yes/' /etc/redis/redis.conf
install -m 644 "$app/prometheus/prometheus.yml" "$app/prometheus/rules.yml" /etc/prometheus/


account ingest /srv/inteligencia
install -m 755 -D "$app/ingest.py" /opt/ingest/ingest.py
install -m 600 /dev/null /etc/default/ingest
cat >/etc/default/ingest <<ENV
INGEST_POSTGRES="host=/var/run/postgresql dbname=intelligence user=ingest"
INGEST_MONGODB=mongodb://127.0.0.1:27117
INGEST_REDIS=redis://:redis-password-of-the-stack@127.0.0.1:6379/0
INGEST_QDRANT=http://127.0.0.1:6333
INGEST_QDRANT_KEY=qdrant-key-of-the-stack
ENV
unit ingest ingest "EnvironmentFile=/etc/default/ingest
ExecStart=/usr/bin/python3 /opt/ingest/ingest.py serve"
sed -i 's/^Restart=on-failure/Restart=no/' /etc/systemd/system/ingest.service

systemctl daemon-reload
servers="postgresql redis-server mongod-backend mongod qdrant grafana-server langsmith prometheus cron"
# shellcheck disable=SC2086
systemctl enable --quiet $servers
# shellcheck disable=SC2086
systemctl restart $servers
until su postgres -c 'psql -qc select' >/dev/null 2>&1; do sleep 0.2; done
for port in 6379 27017 27117 6333 3000 1984 9090; do
    timeout 60 sh -c "until python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", $port), 1)' 2>/dev/null; do sleep 0.2; done"
done
[ "$word" = seeded ] || exit 0

install -d -o ingest -g ingest /srv/inteligencia/langchain /srv/inteligencia/gpt /srv/inteligencia/infra
cp -r "$app/langchain" "$app/gpt" "$app/infra" /srv/inteligencia/
printf 'OPENAI_API_KEY=sk-of-the-stack\nQDRANT_KEY=qdrant-key-of-the-stack\n' >/srv/inteligencia/infra/.env
chmod 600 /srv/inteligencia/infra/.env
chown -R ingest: /srv/inteligencia
su postgres -c 'psql -q' <<SQL
create role ingest login;
create database intelligence owner ingest;
SQL
systemctl enable --quiet --now ingest
