# SPDX-License-Identifier: GPL-3.0-or-later
"""What Analyst IA is made of."""
