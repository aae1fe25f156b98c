"""Writes the OpenAPI document: `python -m deployments.api.export docs/openapi.json`."""

import json
import sys
import tempfile
from pathlib import Path

from deployments.api.routes import build_api
from deployments.api.service import VideoService
from deployments.gateway_config import GatewayConfig


def document() -> str:
    """The document of an application with default settings, as text."""
    with tempfile.TemporaryDirectory() as folder:
        service = VideoService(GatewayConfig(data_dir=Path(folder)))
        try:
            schema = build_api(service).openapi()
        finally:
            service.close()
    return json.dumps(schema, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(document())
