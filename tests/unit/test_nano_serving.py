"""What the small model is trained on is what the server gives it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch._dynamo.testing import CompileCounter

from deployments.config import ServeConfig
from model.camera import camera_condition, relative_poses
from model.checkpoint.synthetic_tokenizer import train_tokenizer, write_tokenizer
from model.compilation import compile_blocks
from model.denoiser import first_frame_condition
from model.geometry import resolve_shape
from model.image_encoder import normalise_for_clip
from model.images import resize_image
from model.layers import linear_fp32
from model.nano.autoencoder import VAE
from model.nano.clips import SHAPE as SHAPE_33
from model.nano.clips import draw_clip, to_bytes
from model.nano.encoded import batch_rays, clip_pixels, encode_batch
from model.nano.noise import BOUNDARY, HIGH, LEAST, LOW, noise_levels
from model.nano.paths import Motion, camera_path, walk
from model.nano.sizes import NANO, TOY
from model.nano.tokens import NEGATIVE_PROMPT, tokenize
from model.nano.world_model import WorldModel, with_mask
from model.prompts import DEFAULT_NEGATIVE_PROMPT
from model.rope import rotary_table
from model.scheduler import flow_sigmas
from model.tokenizer import PromptTokenizer, clean_prompt
from model.types import TEMPORAL_STRIDE, FirstFrame, SamplerSettings, VideoShape
from model.vae import LatentScale, first_settled_latent
from model.vae_encoder import VAEEncoder

EXAMPLES = Path(__file__).parents[2] / "examples"
CPU = torch.device("cpu")
SHAPE = VideoShape(num_frames=9, height=32, width=48)


@pytest.mark.parametrize("has_camera", [True, False])
def test_a_batch_of_training_is_what_the_server_computes_one_by_one(has_camera: bool) -> None:
    torch.manual_seed(0)
    dit = WorldModel(TOY, 300).low_noise
    for parameter in dit.parameters():
        torch.nn.init.normal_(parameter, std=0.2)  # the camera's and the head's begin with nothing
    latent, y = torch.randn(2, 16, 3, 4, 6), torch.randn(2, 20, 3, 4, 6)
    rays = torch.randn(2, 384, 3, 4, 6)
    text, image = torch.zeros(2, 512, 16), torch.randn(2, 5, 80)
    text[0, :7], text[1, :4] = torch.randn(7, 16), torch.randn(4, 16)
    timesteps, lengths = torch.tensor([950.0, 480.0]), (7, 4)
    rope = rotary_table((3, 2, 3), TOY.dit.head_dim, device=CPU)
    batch = dit.forward_batch(latent, timesteps, y, rays if has_camera else None, text, image, rope)
    for i, length in enumerate(lengths):
        clip = dit.condition_clip(y[i], rays[i] if has_camera else None, kept_blocks=0)
        prompt = dit.condition_prompt(text[i, :length], image[i])
        alone = dit(latent[i], timesteps[i], clip, prompt)
        assert torch.allclose(batch[i], alone, atol=1e-4, rtol=1e-4)


def test_two_compilations_serve_all_blocks() -> None:
    """Without the code generator, which takes minutes on a CPU."""
    graphs = CompileCounter()
    torch.compiler.reset()
    model = WorldModel(replace(TOY, num_layers=2), 300)
    latent, y, rays = (torch.randn(2, channels, 3, 4, 6) for channels in (16, 20, 384))
    text, image, timesteps = torch.zeros(2, 512, 16), torch.randn(2, 5, 80), torch.ones(2)
    rope = rotary_table((3, 2, 3), TOY.dit.head_dim, device=CPU)
    for dit in model.experts:
        plain = dit.forward_batch(latent, timesteps, y, rays, text, image, rope)
        compile_blocks(dit, graphs)
        ours = dit.forward_batch(latent, timesteps, y, rays, text, image, rope)
        assert torch.allclose(ours, plain)
    assert graphs.frame_count == 1
    for dit in model.experts:
        dit.forward_batch(latent, timesteps, y, None, text, image, rope)
    assert graphs.frame_count == 2


def test_rays_of_a_batch_are_those_of_requests() -> None:
    motions = [Motion(yaw=13), Motion(right=1, yaw=-8, pitch=3), Motion()]
    steps = [
        relative_poses(walk(motion, SHAPE.num_frames)[::TEMPORAL_STRIDE].float())
        for motion in motions
    ]
    batch = batch_rays(torch.stack(steps), SHAPE)
    for rays, motion in zip(batch, motions, strict=True):
        camera = camera_path(motion, SHAPE.num_frames)
        assert torch.allclose(rays, camera_condition(camera, SHAPE, device=CPU), atol=1e-6)


def test_the_mask_is_the_servers() -> None:
    latent = torch.randn(2, 16, 3, 4, 6)
    for row, alone in zip(with_mask(latent), latent, strict=True):
        assert torch.equal(row, first_frame_condition(FirstFrame(alone.numpy())))


def test_latents_and_first_frames_are_the_servers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    vae = VAE(TOY)
    mean, std = torch.randn(16), torch.rand(16) + 0.5
    torch.save({"vae": vae.state_dict(), "mean": mean, "std": std}, tmp_path / "vae.pt")
    clips = [draw_clip(seed, device=CPU, shape=SHAPE) for seed in (1, 2)]
    kept = encode_batch(tmp_path / "vae.pt", TOY, clips)
    config = replace(TOY.vae, latents_mean=tuple(mean.tolist()), latents_std=tuple(std.tolist()))
    num_distinct = first_settled_latent(config) + 1
    server = VAEEncoder(vae.encoder, LatentScale(config, CPU), num_distinct)
    for i, clip in enumerate(clips):
        frames = to_bytes(clip.pixels_3NHW)
        latents = server.encode_clip(frames.permute(3, 0, 1, 2).float() / 127.5 - 1)
        first = server.encode(frames[0].numpy(), SHAPE)
        for name, values in (("latents", latents.values), ("first_frames", first.latent)):
            wanted = torch.from_numpy(values).bfloat16()
            assert torch.allclose(kept[name][i].float(), wanted.float(), atol=0.02, rtol=0.02)


def test_images_reach_the_tower_as_the_servers_do() -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    alone = normalise_for_clip(resize_image(image, 28, 28, CPU))
    assert torch.allclose(clip_pixels(torch.from_numpy(image[None]), 28), alone, atol=1e-5)


def test_prompts_are_cut_into_the_servers_tokens_and_rows(tmp_path: Path) -> None:
    captions = ["A red box on grey stone, at night, in fog.", "Two blue walls on a green meadow."]
    assert clean_prompt(DEFAULT_NEGATIVE_PROMPT) == NEGATIVE_PROMPT
    tokenizer = train_tokenizer([*captions, NEGATIVE_PROMPT], 300)
    write_tokenizer(tmp_path / "tokenizer", tokenizer)
    server = PromptTokenizer.read(tmp_path / "tokenizer" / "tokenizer.json")
    tokens, lengths = tokenize(tokenizer, [*captions, NEGATIVE_PROMPT])
    torch.manual_seed(0)
    model = WorldModel(TOY, tokenizer.get_vocab_size()).eval()
    rows = model.encode_text(tokens, lengths)
    prompts = [*captions, DEFAULT_NEGATIVE_PROMPT]
    for prompt, row, ids, length in zip(prompts, rows, tokens, lengths, strict=True):
        assert ids[:length].tolist() == server.encode(prompt)
        alone = model.text_encoder(input_ids=ids[None, :length]).last_hidden_state[0]
        assert torch.allclose(row[:length], alone, atol=1e-4)
        assert not row[length:].any()


def test_training_drops_nothing_out() -> None:
    model = WorldModel(TOY, 300).train()
    tokens, lengths = torch.randint(3, 300, (1, 9)), torch.tensor([9])
    assert torch.equal(model.encode_text(tokens, lengths), model.encode_text(tokens, lengths))


def test_each_expert_sees_the_noise_of_its_own_side() -> None:
    high, low = (noise_levels(4096, expert, device=CPU) for expert in (HIGH, LOW))
    assert high.min() >= BOUNDARY - 1e-6
    assert high.max() <= 1
    assert low.min() >= LEAST - 1e-6
    assert low.max() <= BOUNDARY + 1e-6


@pytest.mark.parametrize("steps", [8, 12, 19])
def test_the_sampler_asks_for_no_less_noise_than_was_trained(steps: int) -> None:
    assert flow_sigmas(SamplerSettings(num_inference_steps=steps)).min() >= LEAST


def test_float32_layers_stay_so_where_the_rest_is_not() -> None:
    torch.manual_seed(0)
    linear, x = torch.nn.Linear(64, 64), torch.randn(4, 64)
    with torch.autocast("cpu", torch.bfloat16):
        exact, rounded = linear_fp32(x, linear), linear(x)
    assert torch.equal(exact, linear_fp32(x, linear))
    assert rounded.dtype is torch.bfloat16


def test_the_checkpoint_fits_what_may_be_shipped() -> None:
    modules = (VAE(NANO), WorldModel(NANO, NANO.vocab_size))
    values = sum(p.numel() for module in modules for p in module.parameters())
    assert 2 * values < 23_000_000


def test_the_example_serves_the_size_that_was_trained() -> None:
    config = ServeConfig.from_yaml(EXAMPLES / "nano.yaml")
    generation = config.gateway.generation
    assert (generation.num_frames, generation.num_inference_steps) == (SHAPE_33.num_frames, 12)
    for height, width in ((480, 832), (96, 160)):
        shape = resolve_shape(
            area=generation.width * generation.height,
            image_height=height,
            image_width=width,
            num_frames=33,
            num_poses=33,
        )
        assert shape == SHAPE_33
