"""The two applications: every `.bind()` of the project is in this file.

There is no `from __future__ import annotations` here: Serve turns YAML `args` into the model that
annotates a builder's parameter, and would not recognise one that is a string.
"""

from typing import Any

from ray import serve
from ray.serve import Application

from cluster.denoise_program import DenoiserFactory
from cluster.placement import replica_bundles
from deployments.denoiser import DenoiserStage
from deployments.gateway import Gateway
from deployments.gateway_config import GatewayConfig
from deployments.image_encoder import ImageEncoderStage
from deployments.messages import Stage
from deployments.names import GATEWAY, PIPELINE
from deployments.pipeline import Pipeline
from deployments.pipeline_config import PipelineConfig, StageConfig
from deployments.record import origin_of
from deployments.text_encoder import TextEncoderStage
from deployments.timeouts import DenoiseTimeouts, StageTimeouts
from deployments.vae_decoder import VAEDecoderStage
from deployments.vae_encoder import VAEEncoderStage
from model.checkpoint.fingerprint import fingerprint
from model.checkpoint.layout import CheckpointPaths, locate_checkpoint
from model.checkpoint.manifest import check_manifest
from model.config import DiTConfig, read_dit_config
from model.errors import CheckpointError

# How long at most Serve's router sleeps before it looks again for a gang that is free.
_GANG_BACKOFF_S = 0.1
# Serve's default of 5 makes callers of quick stages wait in a back-off loop.
_LIGHT_MAX_ONGOING = 100
# A clip with its stages is one request, and there may be two and more for each gang.
_PIPELINE_MAX_ONGOING = 10_000
# The gateway answers polls beside the requests that wait for their clip.
_GATEWAY_MAX_ONGOING = 1000
# How often Serve looks whether a gateway that it stops has answered all; until then it claims jobs.
_GATEWAY_WAIT_LOOP_S = 0.1
# A gang's owner notices a stuck rank itself, and says which; after so long it is stuck too.
_OWNER_MARGIN_S = 30.0
# For a drained gateway to put back what it could not finish, before Serve kills it.
_DRAIN_MARGIN_S = 30.0


def build_pipeline(args: PipelineConfig) -> Application:
    """The DAG that makes clips; a checkpoint without the image branch leaves CLIP out.

    Args:
        args: Read from YAML by Serve, or built in code. Where a stage scales, `serve_config` says
            so to Serve beside the arguments: what is in them restarts the gangs when it changes.

    Raises:
        CheckpointError: The checkpoint is incomplete or does not fit.
        ConfigurationError: The gang's Ulysses degree does not divide the heads.
    """
    # Here, since it brings the models along: whoever starts them beside Ray binds without.
    from model.verify import verify_weights

    pipeline = bind_pipeline(args)
    verify_weights(locate_checkpoint(args.checkpoint))
    return pipeline


def bind_pipeline(args: PipelineConfig) -> Application:
    """The same DAG before the weights' names and shapes are held against the models.

    Raises:
        CheckpointError: The checkpoint is incomplete.
        ConfigurationError: The gang's Ulysses degree does not divide the heads.
    """
    paths, dit = check_checkpoint(args)
    root = str(paths.root)
    text_encoder = _stage(Stage.TEXT_ENCODER, TextEncoderStage, args.text_encoder, args).bind(
        root, args.text_encoder, args.text_cache_entries, logs=args.logging
    )
    image_encoder = None
    if dit.image_dim is not None:
        image_encoder = _stage(
            Stage.IMAGE_ENCODER, ImageEncoderStage, args.image_encoder, args
        ).bind(root, args.image_encoder, logs=args.logging)
    vae_encoder = _stage(Stage.VAE_ENCODER, VAEEncoderStage, args.vae_encoder, args).bind(
        root, args.vae_encoder, logs=args.logging
    )
    gang = args.denoiser.gang
    denoiser = _gangs(args).bind(gang, DenoiserFactory(root, gang), logs=args.logging)
    vae_decoder = _stage(Stage.VAE_DECODER, VAEDecoderStage, args.vae_decoder, args).bind(
        root, args.vae_decoder, logs=args.logging
    )
    return pipeline_deployment(args).bind(
        text_encoder,
        image_encoder,
        vae_encoder,
        denoiser,
        vae_decoder,
        gpus_per_gang=gang.size,
        timeouts=stage_timeouts(args),
        checkpoint_every_steps=args.denoiser.checkpoint_every_steps,
        logs=args.logging,
        origin=origin_of(args, fingerprint(paths.root)),
    )


def build_gateway(args: GatewayConfig) -> Application:
    """The HTTP ingress; it finds the pipeline application by name.

    Args:
        args: Read from YAML by Serve, or built in code.
    """
    deployment = _deployment(
        serve.ingress()(Gateway),
        name=GATEWAY,
        num_replicas=args.num_replicas,
        max_surge_percent=100,  # an updated one answers before the old one stops
        max_ongoing_requests=_GATEWAY_MAX_ONGOING,
        graceful_shutdown_wait_loop_s=_GATEWAY_WAIT_LOOP_S,
        graceful_shutdown_timeout_s=args.drain_timeout_s + _DRAIN_MARGIN_S,
        ray_actor_options={"num_cpus": args.num_cpus, "label_selector": args.label_selector},
    )
    return deployment.bind(args)


def check_checkpoint(config: PipelineConfig) -> tuple[CheckpointPaths, DiTConfig]:
    """Holds a configuration against its checkpoint, before anything is started.

    Raises:
        CheckpointError: A file is missing or is not that of the manifest; the message lists all.
        ConfigurationError: The Ulysses degree does not divide the DiT's heads.
    """
    check_manifest(config.checkpoint, config.manifest)
    paths = locate_checkpoint(config.checkpoint)
    dit = read_dit_config(paths)
    dit.check_ulysses_degree(config.denoiser.gang.ulysses_degree)
    if dit.image_dim is not None and paths.image_encoder is None:
        raise CheckpointError(
            f"checkpoint {paths.root}: its DiT takes CLIP features, but it has no image encoder"
        )
    return paths, dit


def pipeline_deployment(config: PipelineConfig) -> serve.Deployment:
    """The deployment that composes the stages, not yet bound to any."""
    return _deployment(
        Pipeline,
        name=PIPELINE,
        max_ongoing_requests=_PIPELINE_MAX_ONGOING,
        graceful_shutdown_timeout_s=config.longest_clip_s,
        ray_actor_options={"num_cpus": config.num_cpus, "label_selector": config.label_selector},
    )


def stage_timeouts(config: PipelineConfig) -> StageTimeouts:
    """How long the pipeline waits for each stage."""
    gang = config.denoiser.gang
    return StageTimeouts(
        text_encoder_s=config.text_encoder.timeout_s,
        image_encoder_s=config.image_encoder.timeout_s,
        vae_encoder_s=config.vae_encoder.timeout_s,
        denoiser=DenoiseTimeouts(
            queue_s=config.denoiser.queue_timeout_s,
            first_step_s=gang.first_step_timeout_s + _OWNER_MARGIN_S,
            step_s=gang.step_timeout_s + _OWNER_MARGIN_S,
        ),
        vae_decoder_s=config.vae_decoder.timeout_s,
    )


def _stage(
    stage: Stage, kind: type[Any], config: StageConfig, pipeline: PipelineConfig
) -> serve.Deployment:
    return _deployment(
        kind,
        name=stage.value,
        max_ongoing_requests=_LIGHT_MAX_ONGOING,
        graceful_shutdown_timeout_s=pipeline.longest_clip_s,
        ray_actor_options={
            "num_cpus": config.num_cpus,
            "num_gpus": config.num_gpus,
            "label_selector": config.label_selector,
        },
        num_replicas=config.num_replicas,
    )


def _gangs(config: PipelineConfig) -> serve.Deployment:
    gang = config.denoiser.gang
    return _deployment(
        DenoiserStage,
        name=Stage.DENOISER.value,
        max_ongoing_requests=config.denoiser.clips_per_gang,
        request_router_config={"max_backoff_s": _GANG_BACKOFF_S},
        graceful_shutdown_timeout_s=config.longest_clip_s,
        placement_group_bundles=replica_bundles(gang),
        placement_group_strategy=gang.placement,
        # One selector holds for every bundle.
        placement_group_bundle_label_selector=[config.denoiser.label_selector],
        ray_actor_options={"num_cpus": gang.controller_cpus},
        num_replicas=config.denoiser.num_replicas,
    )


def _deployment(kind: type[Any], **options: Any) -> serve.Deployment:
    # The decorator's other form, without a class, is what its return type also allows for.
    deployment = serve.deployment(kind, **options)
    assert isinstance(deployment, serve.Deployment)
    return deployment
