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
    "air-gapped": "h200x8.yaml",
    "cpu-smoke": "cpu-cluster.yaml",
    "many-gangs": "many-gangs.yaml",
    "one-node": "h200x8.yaml",
    "shared-cluster": "h200x8.yaml",
    "two-hosts": "two-hosts.yaml",
}


def rendered(overlay: str) -> str:
    """What an overlay's serve-config.yaml has to hold."""
    config = ServeConfig.from_yaml(ROOT / "examples" / SOURCES[overlay])
    return yaml.safe_dump(serve_config(config), sort_keys=False)


def main() -> None:
    """Writes the file of every overlay that has one of its own."""
    for overlay in SOURCES:
        folder = ROOT / "k8s/overlays" / overlay
        if "serve-config.yaml" in (folder / "kustomization.yaml").read_text():
            (folder / "serve-config.yaml").write_text(rendered(overlay))
            print(f"k8s/overlays/{overlay}/serve-config.yaml")


if __name__ == "__main__":
    main()
