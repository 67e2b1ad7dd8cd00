# SPDX-License-Identifier: GPL-3.0-or-later
"""What the source `qdrant` is made of: the server's REST interface, capture, fingerprint and swap."""
