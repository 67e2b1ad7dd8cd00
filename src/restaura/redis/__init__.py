# SPDX-License-Identifier: GPL-3.0-or-later
"""What the source `redis` is made of."""
