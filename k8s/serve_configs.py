"""Writes each overlay's serve-config.yaml: what `lingbot-serve render` prints of an example file.

Run it as `make k8s-render` after a change of `examples/*.yaml`.
"""

from pathlib import Path

import yaml

from deployments.config import ServeConfig
from deployments.serve_config import serve_config

ROOT = Path(__file__).parents[1]
# The file in `examples/` that an overlay serves.
SOURCES = {
    "one-node": "h200x8.yaml",
}


def rendered(overlay: str) -> str:
    """What an overlay's serve-config.yaml has to hold."""
    config = ServeConfig.from_yaml(ROOT / "examples" / SOURCES[overlay])
    return yaml.safe_dump(serve_config(config), sort_keys=False)


def target(overlay: str) -> Path:
    return ROOT / "k8s/overlays" / overlay / "serve-config.yaml"


def main() -> None:
    """Writes all of them."""
    for overlay in SOURCES:
        target(overlay).write_text(rendered(overlay))
        print(target(overlay).relative_to(ROOT))


if __name__ == "__main__":
    main()
