"""Names of the two Serve applications."""

PIPELINE = "pipeline"
GATEWAY = "gateway"
