"""Where work that is done once is told of."""

import logging

#: Told of what is done once and takes a while, so that programs can show it to their users.
preparation = logging.getLogger("rom_haystack.inference.preparation")
