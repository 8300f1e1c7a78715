"""`python -m quantize` in a checkout: the same as `moshi quantize`."""

import sys

from app.cli import main

sys.exit(main(["quantize", *sys.argv[1:]]))
