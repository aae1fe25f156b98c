"""What Ray's processes inherit from a benchmark."""

import os

RAY_ENVIRONMENT = {
    # Without a token Ray writes none into the home directory.
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": os.getcwd(),
}
