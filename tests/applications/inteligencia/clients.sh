#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Runs clients.py as ingestion's account, with the libraries beside this folder: clients.sh fill | look
set -eu
here=$(dirname "$(readlink -f "$0")") libraries=$(dirname "$(readlink -f "$0")")/../clients
set -a
. /etc/default/ingest
HOME=/srv/inteligencia PYTHONPATH=$libraries/qdrant:$libraries/langsmith:$libraries/langchain
PYTHONDONTWRITEBYTECODE=1 PYTHONWARNINGS=ignore
exec setpriv --reuid=ingest --regid=ingest --init-groups python3 "$here/clients.py" "$1"
