"""The decoder compiled by torch."""

import numpy as np
import torch
from torch._dynamo.testing import CompileCounter

from model.checkpoint.vae import VAEConfig
from model.types import Latents
from model.vae import LatentScale, compile_half
from model.vae_decoder import VAEDecoder
from model.vae_network import DecoderHalf

CPU = torch.device("cpu")


def test_one_compilation_serves_clips_of_all_sizes() -> None:
    """Without the code generator, which takes minutes on a CPU."""
    config = VAEConfig(4, (1, 1, 1, 1), 1, (False, True, True))
    half = DecoderHalf(config).eval().requires_grad_(False)
    scale, graphs = LatentScale(config, CPU), CompileCounter()
    torch.compiler.reset()
    decoder = VAEDecoder(half, scale, compile_half(half, graphs))
    decoder.warm_up(48, 80)
    for num_latents, height, width in ((6, 4, 4), (7, 8, 6)):
        values = np.random.default_rng(0).standard_normal((16, num_latents, height, width))
        latents = Latents(values.astype(np.float32))
        expected = torch.cat(list(VAEDecoder(half, scale).decode_float(latents)), dim=1)
        ours = torch.cat(list(decoder.decode_float(latents)), dim=1)
        assert ours.shape[1] == 4 * num_latents - 3
        assert (ours - expected).norm() <= 1e-5 * expected.norm()
    assert graphs.frame_count == 1
