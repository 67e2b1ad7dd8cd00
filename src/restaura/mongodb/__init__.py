# SPDX-License-Identifier: GPL-3.0-or-later
"""MongoDB: how a server is reached, what is in it, how it is captured, restored and swapped."""
