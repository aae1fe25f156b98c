"""Every overlay renders and is valid; what it serves is what its example file says."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import yaml

from deployments.config import ServeConfig
from deployments.messages import Stage
from k8s import serve_configs
from k8s.validate.__main__ import main
from k8s.validate.checks import faults
from k8s.validate.external import External
from k8s.validate.manifests import OVERLAYS, RenderError, overlays, render
from k8s.validate.references import references
from tests.support.overlays import ROOT, custom_resources, needs_kubectl, overlay

NAMES = [folder.name for folder in overlays()]

pytestmark = needs_kubectl


@pytest.mark.parametrize("name", NAMES)
def test_an_overlay_is_valid(name: str) -> None:
    assert not list(faults(overlay(name), custom_resources(), External.read()))


@pytest.mark.parametrize("name", NAMES)
def test_an_overlay_serves_its_example(name: str) -> None:
    [service] = overlay(name).of("RayService")
    assert service["spec"]["serveConfigV2"] == serve_configs.rendered(name)


@pytest.mark.parametrize("name", NAMES)
def test_the_example_is_read_back_as_it_was(name: str) -> None:
    file = ServeConfig.from_yaml(ROOT / "examples" / serve_configs.SOURCES[name])
    pipeline, gateway = yaml.safe_load(serve_configs.rendered(name))["applications"]
    # How stages scale stands beside the arguments; see `deployments.serve_config`.
    fixed = {
        stage.value: getattr(file.pipeline, stage.value).model_copy(update={"scaling": None})
        for stage in Stage
    }
    read_back = type(file.pipeline).model_validate(pipeline["args"])
    assert file.pipeline.model_copy(update=fixed) == read_back
    scaling = {each["name"] for each in pipeline.get("deployments", ())}
    leader = {"denoiser", "pipeline"} if file.pipeline.denoiser.scaling else set()
    assert scaling == file.pipeline.followers.keys() | leader
    assert file.gateway == type(file.gateway).model_validate(gateway["args"])


def test_every_component_is_in_an_overlay() -> None:
    used = "".join((OVERLAYS / name / "kustomization.yaml").read_text() for name in NAMES)
    components = {folder.name for folder in OVERLAYS.parent.glob("components/*")}
    assert {name for name in components if f"components/{name}\n" not in used} == set()


def test_what_is_external_is_used_and_told() -> None:
    used = {r.name for name in NAMES for r in references(overlay(name))}
    names = External.read().all_names()
    assert names <= used
    readme = (ROOT / "k8s/README.md").read_text()
    assert [name for name in sorted(names) if f"`{name}`" not in readme] == []


def test_the_command_reports_what_it_could_not_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--crds", str(tmp_path / "none"), str(OVERLAYS / NAMES[0])]) == 0
    printed = capsys.readouterr().out
    assert "NOT CHECKED" in printed
    assert "no schema at hand for RayService" in printed


def test_a_folder_that_does_not_render_is_a_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "kustomization.yaml").write_text("resources: [nowhere.yaml]")
    with pytest.raises(RenderError, match="nowhere"):
        render(tmp_path)
    assert main([str(tmp_path)]) == 1
    assert "does not render" in capsys.readouterr().err


@contextmanager
def answers(codes: dict[str, int]) -> Iterator[str]:
    """A server that gives each path the code that stands there at the moment."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(codes[self.path])
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@contextmanager
def container() -> Iterator[int]:
    """What stands for a container's first process."""
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process.pid
        process.kill()


@pytest.mark.skipif(shutil.which("wget") is None, reason="the probe asks with wget")
@pytest.mark.parametrize("group", [0, 1])
def test_a_container_that_is_started_anew_has_to_get_ready_anew(tmp_path: Path, group: int) -> None:
    [service] = overlay("many-gangs").of("RayService")
    pods = service["spec"]["rayClusterConfig"]["workerGroupSpecs"][group]["template"]["spec"]
    command = pods["containers"][0]["readinessProbe"]["exec"]["command"]
    codes = {"/readyz": 503, "/healthz": 200}
    with answers(codes) as address:

        def is_ready(pid: int) -> bool:
            here = {
                "http://127.0.0.1:8000/": address,
                "/proc/1/": f"/proc/{pid}/",
                "/tmp/": f"{tmp_path}/",
            }
            script = command[-1]
            for there, local in here.items():
                assert there in script
                script = script.replace(there, local)
            return subprocess.run([*command[:-1], script], check=False).returncode == 0

        with container() as first:
            assert not is_ready(first)
            codes["/readyz"] = 200
            assert is_ready(first)
            codes["/readyz"] = 503  # a gang heals
            assert is_ready(first)
            codes["/healthz"] = 503
            assert not is_ready(first)
        codes["/healthz"] = 200
        with container() as second:
            assert not is_ready(second)
            codes["/readyz"] = 200
            assert is_ready(second)
