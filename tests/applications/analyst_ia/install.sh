#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Lays Analyst IA out below /srv/analyst_ia and starts it: install.sh FOLDER_OF_ITS_FILES URL_OF_ITS_SERVICES
set -eu
from=$1 services=$2 to=/srv/analyst_ia
id analyst >/dev/null 2>&1 || useradd --system --home-dir "$to" --shell /usr/sbin/nologin analyst
install -d "$to/backend/utils"
install -d -o analyst -g analyst "$to/backend/historico" "$to/backend/logs" "$to/relatorios"
install -m 644 "$from"/backend/*.py "$to/backend"
install -m 644 "$from"/backend/utils/*.py "$to/backend/utils"
install -m 640 -g analyst /dev/null "$to/backend/.env"
cat >"$to/backend/.env" <<ENV
# Keys of the services that Analyst IA asks.
NEW_RELIC_URL=$services/newrelic
NEW_RELIC_API_KEY=NRAK-of-the-lab
OPENAI_URL=$services/openai
OPENAI_API_KEY=sk-of-the-lab
PORT=8000
ENV
install -m 644 "$from/analyst_ia.service" /etc/systemd/system/analyst_ia.service
systemctl daemon-reload
systemctl enable --quiet --now analyst_ia.service
