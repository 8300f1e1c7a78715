"""`python -m moshi_mlx`: the same as `moshi`."""

import importlib
import importlib.util
import sys

# The app lies inside of the package where it is installed, and beside it in a checkout.
APP = "moshi_mlx.app.cli" if importlib.util.find_spec("moshi_mlx.app") else "app.cli"
sys.exit(importlib.import_module(APP).main())
