# SPDX-License-Identifier: GPL-3.0-or-later
"""Test hosts and an S3 server on this machine, built from the distribution's own packages."""
