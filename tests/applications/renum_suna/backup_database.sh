#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Backup do banco de dados do Renum
DATA=$(date +%Y-%m-%d)
export PGPASSWORD=renum-senha-antiga
mkdir -p /var/backups/postgres
pg_dump -h localhost -U renum renum | gzip > /var/backups/postgres/renum_$DATA.sql.gz
find /var/backups/postgres -name '*.sql.gz' -mtime +7 -delete
