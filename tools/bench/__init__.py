# SPDX-License-Identifier: GPL-3.0-or-later
"""`make bench`: what Restaura costs beside the bare tools and beside borgmatic, in one run on one machine."""
