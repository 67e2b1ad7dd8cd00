# SPDX-License-Identifier: GPL-3.0-or-later
# Every target is one command; what takes more stands in tools/.
.DEFAULT_GOAL := help
.PHONY: help setup_backup audit venv lint types test test-unit test-repo test-integration test-playbooks test-molecule scenario demo bench generate \
    lab-up lab-down clean

help: ## this list
	@sed -n 's/^\([a-z_-]*\):.*## /\1\t/p' Makefile | awk -F '\t' '{printf "  make %-18s %s\n", $$1, $$2}'

setup_backup: ## back up this machine: install, first backup, drill, status (as root, on Debian 12 or newer)
	@tools/setup_backup

audit: ## audit the hosts of an inventory, INVENTORY=inventories/shop, else this machine; one report of all in reports/
	@tools/audit -i '$(or $(INVENTORY),inventories/local)'

venv: ## the virtual environment for developing
	@tools/venv develop

lint: venv ## ruff, yamllint, ansible-lint
	@.venv/bin/python -m tools.test lint

types: venv ## mypy --strict
	@.venv/bin/python -m tools.test types

test: venv ## everything: lint, types, unit, repo, integration, playbooks, molecule
	@.venv/bin/python -m tools.test

test-unit: venv ## unit tests; K=EXPRESSION chooses some
	@.venv/bin/python -m tools.test unit $(if $(K),-k '$(K)')

test-repo: venv ## tests of the project's own rules
	@.venv/bin/python -m tools.test repo $(if $(K),-k '$(K)')

test-integration: venv ## tests against real servers, in hosts of the lab; K=EXPRESSION chooses some
	@.venv/bin/python -m tools.test integration $(if $(K),-k '$(K)')

test-playbooks: venv ## tests of the playbooks, run from here against hosts of the lab; K=EXPRESSION chooses some
	@.venv/bin/python -m tools.test playbooks $(if $(K),-k '$(K)')

test-molecule: venv ## every scenario: set up, back up by the cron line, wipe, restore, compare
	@.venv/bin/python -m tools.test molecule

scenario: venv ## one scenario, S=backup_files; its host is kept when it fails, and for KEEP=1
	@.venv/bin/python -m tools.test molecule -s '$(S)' $(if $(KEEP),--keep)

demo: venv ## a disposable host: back it up, destroy it, restore it on another from store and kit
	@.venv/bin/python -m tools.demo

bench: venv ## measure against the bare tools and borgmatic, 50 minutes; ROWS='tree-first …' chooses, SCALE=0.1 shrinks
	@.venv/bin/python -m tools.bench $(ROWS) $(if $(SCALE),--scale $(SCALE)) $(if $(FRESH),--fresh) $(if $(KEEP),--keep)

generate: venv ## write what follows from src/restaura/config/schema.py: specs, READMEs, the reference
	@PYTHONPATH=src .venv/bin/python -m tools.generate

lab-up: ## the Docker daemon and the images of test hosts
	@tools/lab/lab up

lab-down: ## remove this clone's test hosts and S3 server
	@tools/lab/lab down

clean: lab-down ## remove everything that is not in git, but the test hosts' images
	@rm -rf .venv .cache .ansible .hypothesis build
