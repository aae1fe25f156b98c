"""The configuration file: presets, overrides, refusals."""

import subprocess
import sys
from pathlib import Path

import pytest

from deployments.app import build_pipeline, check_checkpoint
from deployments.config import ServeConfig
from deployments.gateway_config import GatewayConfig
from deployments.pipeline_config import PipelineConfig
from model.checkpoint.layout import CheckpointPaths
from model.errors import CheckpointError, ConfigurationError

EXAMPLES = Path(__file__).parents[2] / "examples"


def write(folder: Path, text: str) -> Path:
    path = folder / "serve.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.yaml")))
def test_shipped_files_are_valid(name: str) -> None:
    config = ServeConfig.from_yaml(EXAMPLES / name)
    assert config.pipeline.checkpoint.is_absolute()
    assert config.gateway.generation.num_frames % 4 == 1


def test_overrides_merge_into_the_file(tmp_path: Path) -> None:
    path = write(
        tmp_path, "pipeline: {checkpoint: /a, denoiser: {gang: {size: 2, cpus_per_rank: 0.5}}}"
    )
    over = {"checkpoint": "/b", "denoiser": {"gang": {"size": 4}}}
    config = ServeConfig.from_yaml(path, pipeline=over, http={"port": 9000})
    assert config.pipeline.checkpoint == Path("/b")
    assert config.pipeline.denoiser.gang.size == 4
    assert config.pipeline.denoiser.gang.cpus_per_rank == 0.5
    assert config.http.port == 9000


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pipeline: {checkpoint: /a, text_encodr: {}}", "text_encodr"),
        ("gateway: {preset: 480*832}", "Field required"),
        ("pipeline: {checkpoint: /a}\ngateway: {preset: 8k}", "8k"),
        ("pipeline: {checkpoint: /a, vae_decoder: {device: cuda}}", "num_gpus"),
        ("pipeline: {checkpoint: /a, denoiser: {gang: {size: 4, ulysses_degree: 3}}}", "ulysses"),
        ("pipeline: {checkpoint: /a, vae_decoder: {scaling: {min_replicas: 3}}}", "max_replicas"),
        ("pipeline: {checkpoint: /a, vae_decoder: {label_selector: {pool: in(a)b}}}", "pool"),
        (
            "pipeline: {checkpoint: /a}\ngateway: {database_url: x, database_url_file: y}",
            "not both",
        ),
        ("pipeline: {checkpoint: /a, vae_decoder: {scaling: {}}}", "vae_decoder would follow"),
        ("pipeline: {checkpoint: /a, denoiser: {scaling: {clip_s: 3}}}", "clip_s"),
        ("- no mapping", "pipeline"),
        ("pipeline: {", "serve.yaml"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        ServeConfig.from_yaml(write(tmp_path, text))


def test_stages_that_could_crowd_out_a_rank_are_refused() -> None:
    def config(share: float) -> PipelineConfig:
        stage = {"device": "cuda", "num_gpus": share}
        gang = {"size": 8, "device": "cuda", "gpus_per_rank": 0.8}
        return PipelineConfig.model_validate(
            {
                "checkpoint": "/a",
                "denoiser": {"gang": gang},
                "text_encoder": stage,
                "vae_decoder": stage,
            }
        )

    assert config(0.1).denoiser.gang.size == 8
    with pytest.raises(ValueError, match="crowd out a rank"):
        config(0.2)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="nowhere"):
        ServeConfig.from_yaml(tmp_path / "nowhere.yaml")


def test_preset_takes_overrides() -> None:
    config = GatewayConfig.model_validate(
        {"preset": "720*1280", "defaults": {"num_inference_steps": 8, "sampler": "dpm++"}}
    )
    assert config.generation.size == "720x1280"
    assert config.generation.num_inference_steps == 8
    assert config.generation.sampler == "dpm++"
    assert config.generation.flow_shift == 10.0


def test_logical_cpus_cover_every_replica() -> None:
    stage = {"num_cpus": 0.5, "scaling": {"max_replicas": 3}}
    config = ServeConfig(
        pipeline=PipelineConfig.model_validate(
            {
                "checkpoint": "/a",
                "text_encoder": stage,
                "image_encoder": stage,
                "vae_encoder": stage,
                "vae_decoder": stage,
                "num_cpus": 0,
                "denoiser": {
                    "scaling": {"max_replicas": 2},
                    "gang": {"size": 4, "cpus_per_rank": 0.5, "controller_cpus": 1},
                },
            }
        ),
        gateway=GatewayConfig(num_cpus=0),
    )
    assert config.logical_cpus == 6 + 2 * 3


def test_a_start_waits_longer_than_the_gang_may_take() -> None:
    patient = PipelineConfig.model_validate(
        {"checkpoint": "/models/x", "denoiser": {"gang": {"start_timeout_s": 7200}}}
    )
    assert patient.longest_start_s > 7200 > PipelineConfig(checkpoint="/x").longest_start_s


def test_ulysses_degree_must_divide_the_heads(synthetic_checkpoint: CheckpointPaths) -> None:
    config = PipelineConfig.model_validate(
        {"checkpoint": synthetic_checkpoint.root, "denoiser": {"gang": {"size": 3}}}
    )
    with pytest.raises(ConfigurationError, match="1, 2, 4, 8"):
        check_checkpoint(config)


def test_incomplete_checkpoint_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="high_noise_model"):
        build_pipeline(PipelineConfig(checkpoint=tmp_path))


def test_an_application_is_bound_without_torch(synthetic_checkpoint: CheckpointPaths) -> None:
    """Its import takes seconds, which whoever deploys would wait for."""
    program = f"""
import sys
from deployments.app import bind_pipeline, build_gateway
from deployments.gateway_config import GatewayConfig
from deployments.pipeline_config import PipelineConfig
bind_pipeline(PipelineConfig(checkpoint={str(synthetic_checkpoint.root)!r}))
build_gateway(GatewayConfig())
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_database_url_comes_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "database-url"
    config = GatewayConfig(database_url_file=file)
    with pytest.raises(ConfigurationError, match="database_url_file"):
        config.store_url()
    file.write_text("\n")
    with pytest.raises(ConfigurationError, match="is empty"):
        config.store_url()
    file.write_text("postgresql+psycopg://lingbot:secret@db/lingbot\n")
    assert config.store_url() == "postgresql+psycopg://lingbot:secret@db/lingbot"


def test_stages_go_where_their_labels_say(synthetic_checkpoint: CheckpointPaths) -> None:
    config = PipelineConfig.model_validate(
        {
            "checkpoint": synthetic_checkpoint.root,
            "label_selector": {"lingbot-pool": "stages"},
            "vae_decoder": {"label_selector": {"lingbot-pool": "!gangs"}},
            "denoiser": {"label_selector": {"lingbot-pool": "in(gangs,spare)"}},
        }
    )
    pipeline = build_pipeline(config)._bound_deployment
    stages = [stage._bound_deployment for stage in pipeline.init_args]
    by_name = {stage.name: stage for stage in [pipeline, *stages]}
    assert by_name["pipeline"].ray_actor_options["label_selector"] == {"lingbot-pool": "stages"}
    assert by_name["vae_decoder"].ray_actor_options["label_selector"] == {"lingbot-pool": "!gangs"}
    bundles = by_name["denoiser"]._replica_config.placement_group_bundle_label_selector
    assert bundles == [{"lingbot-pool": "in(gangs,spare)"}] * len(bundles)
    assert len(bundles) == 2


def test_several_gateways_want_a_database_server(tmp_path: Path) -> None:
    several = "pipeline: {checkpoint: /a}\ngateway: {num_replicas: 2"
    with pytest.raises(ConfigurationError, match="give database_url"):
        ServeConfig.from_yaml(write(tmp_path, several + "}"))
    shared = several + ", database_url: postgresql+psycopg://host/jobs, num_cpus: 1.0}"
    config = ServeConfig.from_yaml(write(tmp_path, shared))
    alone = ServeConfig.from_yaml(
        write(tmp_path, "pipeline: {checkpoint: /a}\ngateway: {num_cpus: 1.0}")
    )
    # Each has one that replaces it beside it during an update.
    assert config.logical_cpus == alone.logical_cpus + 2
