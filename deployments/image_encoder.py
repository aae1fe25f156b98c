"""The image_encoder stage: CLIP, for checkpoints whose DiT has the image branch."""

from cluster.logs import LogConfig
from deployments.logs import configure_replica_logging
from deployments.messages import Stage
from deployments.model_thread import ModelThread
from deployments.pipeline_config import StageConfig
from deployments.startup import loading
from model.checkpoint.layout import locate_checkpoint
from model.types import ImageEmbeds, UInt8Array


class ImageEncoderStage:
    """One replica of the image encoder.

    Args:
        checkpoint: Directory of the checkpoint.
        config: Device, dtype and threads.
        logs: How the replica writes its log.
    """

    def __init__(self, checkpoint: str, config: StageConfig, logs: LogConfig) -> None:
        from model.image_encoder import ImageEncoder

        configure_replica_logging(logs, Stage.IMAGE_ENCODER.value)
        self._thread = ModelThread(config, Stage.IMAGE_ENCODER)
        with loading(Stage.IMAGE_ENCODER):
            self._model = ImageEncoder.load(
                locate_checkpoint(checkpoint), device=self._thread.device, dtype=self._thread.dtype
            )

    async def encode(self, image: UInt8Array) -> ImageEmbeds:
        """CLIP features of an image.

        Args:
            image: Uint8 [H, W, 3], RGB.
        """
        return await self._thread.call(self._model.encode, image)
