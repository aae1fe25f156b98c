"""The command behind `make k8s-validate`."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from k8s import serve_configs
from k8s.validate.checks import faults
from k8s.validate.external import External
from k8s.validate.manifests import Manifests, RenderError, overlays, render
from k8s.validate.references import references
from k8s.validate.schemas import KUBERNETES, CustomResources, unchecked


def main(arguments: Sequence[str] | None = None) -> int:
    """Validates overlays and says what it found.

    Returns:
        The exit code: 0, or 1 with at least one fault.
    """
    options = _options(arguments)
    if options.crds.is_dir():
        custom = CustomResources.read(options.crds)
        print(f"custom resources: {len(custom.schemas)} kinds from {options.crds}")
    else:
        custom = CustomResources({})
        print(
            f"custom resources: NOT CHECKED, there is no folder {options.crds}: pass CRDS=DIR, or "
            "run kubectl apply --dry-run=server on a cluster"
        )
    print(f"Kubernetes: {' and '.join(KUBERNETES)}")
    results = [_validate(folder, custom) for folder in options.overlays or overlays()]
    found = sum(results)
    print(f"{found} faults" if found else "all overlays are valid")
    return 1 if found else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m k8s.validate", description=__doc__)
    parser.add_argument("--crds", type=Path, default=Path("../shared/schemas"), metavar="DIR")
    parser.add_argument("overlays", type=Path, nargs="*", help="folders; all when left out")
    return parser.parse_args(arguments)


def _validate(folder: Path, custom: CustomResources) -> int:
    external = External.read()
    try:
        manifests = render(folder)
    except RenderError as error:
        found = [str(error)]
        print(f"{folder.name}: {error}", file=sys.stderr)
        return len(found)
    found = [*_stale(manifests), *faults(manifests, custom, external)]
    for fault in found:
        print(f"{manifests.name}: {fault}", file=sys.stderr)
    for api_version, kind in sorted(unchecked(manifests, custom)):
        print(f"{manifests.name}: no schema at hand for {kind} of {api_version}: not checked")
    outside = {r.name for r in references(manifests)} & external.all_names()
    print(
        f"{manifests.name}: {len(manifests.objects)} objects, {len(found)} faults; "
        f"expects {', '.join(sorted(outside)) or 'nothing'} to be there"
    )
    return len(found)


def _stale(manifests: Manifests) -> Iterator[str]:
    overlay = manifests.name
    if overlay in serve_configs.SOURCES:
        expected = serve_configs.rendered(overlay)
        if any(s["spec"].get("serveConfigV2") != expected for s in manifests.of("RayService")):
            source = serve_configs.SOURCES[overlay]
            yield f"serveConfigV2 is not what examples/{source} renders to: run make k8s-render"


if __name__ == "__main__":
    sys.exit(main())
