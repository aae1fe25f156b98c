"""The vae_encoder stage: the first frame into latent space."""

from cluster.logs import LogConfig
from deployments.logs import configure_replica_logging
from deployments.messages import Stage
from deployments.model_thread import ModelThread
from deployments.pipeline_config import VAEStageConfig
from deployments.startup import compiling, loading
from model.checkpoint.layout import locate_checkpoint
from model.types import FirstFrame, UInt8Array, VideoShape


class VAEEncoderStage:
    """One replica of the VAE's encoding half.

    Args:
        checkpoint: Directory of the checkpoint.
        config: Device, dtype, threads and whether it is compiled.
        logs: How the replica writes its log.
    """

    def __init__(self, checkpoint: str, config: VAEStageConfig, logs: LogConfig) -> None:
        from model.vae_encoder import VAEEncoder

        configure_replica_logging(logs, Stage.VAE_ENCODER.value)
        self._thread = ModelThread(config, Stage.VAE_ENCODER)
        with loading(Stage.VAE_ENCODER):
            self._model = VAEEncoder.load(
                locate_checkpoint(checkpoint),
                device=self._thread.device,
                dtype=self._thread.dtype,
                compiled=config.compiled,
            )
        if config.compiled:
            with compiling(Stage.VAE_ENCODER):
                self._model.warm_up()

    async def encode(self, image: UInt8Array, shape: VideoShape) -> FirstFrame:
        """Latent of the image and the grey frames after it.

        Args:
            image: Uint8 [H, W, 3], RGB, of any size.
            shape: Size of the clip.
        """
        return await self._thread.call(self._model.encode, image, shape)
