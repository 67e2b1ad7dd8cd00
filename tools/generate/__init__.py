# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes what follows from `restaura.config.schema` and the sources: specs, READMEs, references, module options."""
