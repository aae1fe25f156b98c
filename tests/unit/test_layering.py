"""Which processes stay light; the import directions themselves are import-linter's business."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("lingbot_serve.cli", {"ray", "torch"}),
        ("deployments.gateway", {"torch"}),
        ("deployments.pipeline", {"torch"}),
        ("deployments.denoiser", {"torch"}),
    ],
)
def test_process_that_only_passes_values_on_is_light(module: str, heavy: set[str]) -> None:
    code = f"import sys, {module}; print(*{heavy} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout.strip() == ""
