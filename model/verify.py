"""Does a checkpoint fit the models, key by key and shape by shape? No weight is read."""

from collections.abc import Callable

import torch

from model.checkpoint.layout import CheckpointPaths
from model.config import read_dit_config
from model.denoiser import Denoiser
from model.errors import CheckpointError
from model.image_encoder import ImageEncoder
from model.text_encoder import TextEncoder
from model.vae_decoder import VAEDecoder
from model.vae_encoder import VAEEncoder


def verify_weights(checkpoint: CheckpointPaths) -> None:
    """Holds every file of a checkpoint against the model that will load it.

    Args:
        checkpoint: Paths of the parts; only headers are read.

    Raises:
        CheckpointError: Keys are missing, unknown or misshapen; the message lists all of them,
            file by file.
    """
    stages: list[Callable[..., object]] = [
        TextEncoder.load,
        VAEEncoder.load,
        Denoiser.load,
        VAEDecoder.load,
    ]
    if read_dit_config(checkpoint).image_dim is not None:
        stages.append(ImageEncoder.load)
    faults = []
    for load in stages:
        try:
            load(checkpoint, device=torch.device("meta"), dtype=torch.float32)
        except CheckpointError as error:
            faults.append(str(error))
    if faults:
        raise CheckpointError("\n".join(dict.fromkeys(faults)))
