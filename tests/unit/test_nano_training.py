"""Training that can be cut off, and what evaluation counts."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import torch
from torch import nn

from model.camera import relative_poses
from model.errors import ConfigurationError
from model.nano.autoencoder import VAE
from model.nano.card import figures_table
from model.nano.dataset import read_shards, save_shard, shard_path
from model.nano.encoded import told_motions
from model.nano.evaluate import Amount, evaluate, verdicts
from model.nano.muon import Muon
from model.nano.paths import Motion, Move, draw_motion, turned_apart_deg, walk
from model.nano.sizes import TOY
from model.nano.studio import sampler
from model.nano.timing import PlaceTable, Timing, draw_timing
from model.nano.training import Keeping, Loop, RunningAverage, StoppedEarly, shuffled
from model.nano.trials import WRONG, Judge, Row, Trial, other_motion
from model.patches import PATCH
from model.rope import rotary_table
from model.types import VideoShape
from model.vae_layers import CausalConv3d

CPU = torch.device("cpu")


def test_a_training_that_was_cut_off_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole = _train(tmp_path / "whole.pt", Keeping())
    with pytest.raises(StoppedEarly, match="after step 0"):
        _train(tmp_path / "cut.pt", Keeping(limit_s=0))
    for _ in range(3):
        with pytest.raises(StoppedEarly):
            _train(tmp_path / "cut.pt", Keeping(resume=True, limit_s=0))
    resumed = _train(tmp_path / "cut.pt", Keeping(resume=True))
    assert torch.equal(whole, resumed)
    assert not list(tmp_path.iterdir())


def _train(file: Path, keeping: Keeping) -> torch.Tensor:
    torch.manual_seed(3)
    model = nn.Linear(4, 4)
    optimizers = [
        Muon([model.weight], lr=0.1, weight_decay=0.01),
        torch.optim.AdamW([model.bias], lr=0.1),
    ]
    loop = Loop(
        model,
        optimizers,
        steps=6,
        warm_up=0.3,
        decay=0.9,
        file=file,
        keeping=keeping,
    )
    for _, chosen in zip(loop, _batches(loop.first), strict=False):
        model(torch.randn(2, 4) + chosen[:, None]).square().mean().backward()
    loop.finish()
    (averaged, _) = loop.average.module.parameters()
    return averaged


def test_matrices_take_the_steps_that_torch_would_give_each() -> None:
    torch.manual_seed(0)
    start = [torch.randn(shape) for shape in ((8, 8), (6, 12), (12, 6), (8, 8))]
    ours, theirs = ([nn.Parameter(each.clone()) for each in start] for _ in range(2))
    without_gradient = nn.Parameter(torch.ones(8, 8))
    options = {"lr": 0.4, "weight_decay": 0.2}
    optimizers = (
        Muon([*ours, without_gradient], **options),
        torch.optim.Muon(theirs, **options, adjust_lr_fn="match_rms_adamw"),
    )
    for _ in range(3):
        for mine, other in zip(ours, theirs, strict=True):
            mine.grad = torch.randn_like(mine)
            other.grad = mine.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for mine, other, before in zip(ours, theirs, start, strict=True):
        assert torch.allclose(mine, other, atol=0.02)
        assert (mine - before).abs().mean() > 0.1
    assert without_gradient.eq(1).all()


def test_a_part_goes_on_as_another_one_would(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])
    part, other = model
    optimizers = [
        Muon([each.weight for each in model], lr=0.1, weight_decay=0.01),
        torch.optim.AdamW([each.bias for each in model], lr=0.1),
    ]
    file = tmp_path / "out.pt"
    loop = Loop(model, optimizers, steps=4, warm_up=0.3, decay=0.9, file=file, keeping=Keeping())
    for step in loop:
        if step == 2:
            loop.begin_as(part, other)
            assert part.weight is not other.weight
        own = torch.ones(1, 3) if step >= 2 else torch.randn(1, 3)
        (part(own) + other(torch.ones(1, 3))).square().mean().backward()
    assert torch.equal(part.weight, other.weight)
    assert torch.equal(part.bias, other.bias)


def _batches(first: int) -> Sequence[torch.Tensor]:
    batches = shuffled(7, 2, 0, first=first, device=CPU)
    return [next(batches) for _ in range(6 - first)]


def test_batches_show_each_clip_once_before_any_again() -> None:
    batches = shuffled(6, 2, 0, first=0, device=CPU)
    epochs = [torch.cat([next(batches) for _ in range(3)]).sort().values for _ in range(2)]
    for epoch in epochs:
        assert epoch.tolist() == list(range(6))
    later = shuffled(6, 2, 0, first=4, device=CPU)
    again = shuffled(6, 2, 0, first=0, device=CPU)
    assert torch.equal(next(later), [next(again) for _ in range(5)][4])


def test_the_running_average_follows_the_weights() -> None:
    module = nn.Linear(2, 2)
    average = RunningAverage(module, decay=0.5)
    with torch.no_grad():
        module.weight.fill_(1.0)
    for step in range(60):
        average.update(step)
    assert torch.allclose(average.module.weight, module.weight)


class _Scripted(Judge):
    """Rows as a checkpoint would have that follows the camera in three clips of four."""

    def __call__(self, trial: Trial) -> Row:
        margin = 1.0 if trial.number == 0 else 4.0
        margins = dict.fromkeys(WRONG, margin)
        margins |= dict.fromkeys([f"follower_{name}" for name in WRONG], 2 * margin)
        if trial.kind == "longer":
            margins = {name: value / 2 for name, value in margins.items()}
        return {
            **margins,
            "right": 25.0,
            "follower_right": 26.0,
            "first_frame": 30.0 - trial.number,
            "vae": 31.0,
            "agrees": 1.0,
            "progress": 0.5,
            "finite": 1.0,
        }


def test_figures_tell_the_margin_that_must_be_from_any_margin() -> None:
    judge = _Scripted(Path(), sampler(12, 2.0), VideoShape(33, 96, 160), CPU)
    figures = evaluate(judge, 7, Amount(camera=4, signs=2, text=2, longer=2))
    assert figures["seed"] == 7
    assert figures["camera"]["moves"] == {"yaw": 1, "orbit": 1, "mixture": 2}
    for name in WRONG:
        margin = figures["camera"][name]
        of_follower = {"margin_db": 6.5, "share": 1.0, "share_better": 1.0}
        found = {"margin_db": 3.25, "share": 0.75, "share_better": 1.0}
        assert margin == {**found, "follower": of_follower}
        assert figures["longer"][name]["kept"] == 0.5
    assert figures["camera"]["first_frame_min_db"] == 27.0
    assert figures["holds"] == {
        "follows_the_camera": False,
        "signs": True,
        "vae": True,
        "first_frame": True,
        "text": True,
        "longer": False,
    }
    assert verdicts(figures) == figures["holds"]
    table = figures_table(figures)
    assert "at least 2 dB in 75.0% | 6.5 dB on average; at least 2 dB in 100.0% | 2 dB" in table
    assert "1 yaw, 1 orbit, 2 mixture; 12 steps, guidance 2.0." in table


def test_the_other_path_of_a_trial_looks_elsewhere_in_the_end() -> None:
    for seed in range(20):
        other = other_motion(Motion(yaw=9), seed)
        assert turned_apart_deg(Motion(yaw=9), other, 33) >= 10


def test_frames_are_where_they_are_unless_a_part_of_the_clip_is_slow() -> None:
    plain = draw_timing(torch.zeros(20), 5, 5)
    assert plain.chosen.tolist() == plain.places.tolist() == [list(range(5))] * 20
    assert not plain.slow.any()
    slowed = draw_timing(torch.ones(300), 5, 5)
    gaps = slowed.places.diff(dim=1)
    assert torch.equal(gaps == 2, slowed.slow[:, 1:])
    assert gaps.min() == 1
    assert gaps.max() == 2
    assert gaps.diff(dim=1).ne(0).sum(1).max() == 1
    assert len({tuple(clip) for clip in gaps.tolist()}) == 8
    assert gaps.eq(2).all(1).float().mean() > 0.4  # throughout; a cut at an end alone gives 0.2


def test_each_clip_is_slow_as_often_as_it_should_be() -> None:
    timing = draw_timing(torch.tensor([0.0, 0.25, 1.0]).repeat(400), 5, 5)
    often = timing.slow.any(1).view(400, 3).float().mean(0)
    assert often[0] == 0
    assert 0.15 < often[1] < 0.35
    assert often[2] > 0.9  # all but those whose slow part has no frame


def test_sparse_clips_keep_the_first_frame_and_the_places_of_the_others() -> None:
    timing = draw_timing(torch.zeros(300), 5, 3)
    assert torch.equal(timing.chosen, timing.places)
    assert len({tuple(clip) for clip in timing.chosen.tolist()}) == 6  # pairs of four
    assert timing.chosen[:, 0].eq(0).all()
    assert timing.chosen.diff(dim=1).min() >= 1
    clips = torch.arange(5.0).expand(300, 1, 5).unflatten(2, (5, 1, 1))
    assert torch.equal(timing.of(clips).flatten(1), timing.chosen.float())


@pytest.mark.parametrize("move", [Move.YAW, Move.ORBIT, Move.MIXTURE, Move.FORWARD])
def test_who_hurries_through_a_slow_clip_is_told_what_a_long_clip_is_told(move: Move) -> None:
    motion = draw_motion(Random(1), move)
    hurried, long = walk(motion.hurried, 33), walk(motion, 65)
    steps = (told_motions(hurried[::stride])[None] for stride in (4, 2))
    whole, half = next(steps), next(steps)[:, ::2]
    number = torch.arange(9)[None]
    slow = Timing(number, 2 * number, number > 0).motions(whole, half)
    as_served = relative_poses(long[::4].float())
    assert torch.allclose(slow[0, 1:], as_served[2::2], atol=5e-3)


@pytest.mark.parametrize("move", list(Move))
def test_motions_are_told_at_the_scale_of_the_server(move: Move) -> None:
    steady = draw_motion(Random(1), move)
    for motion in (steady, replace(steady, eased=True), replace(steady, then=Motion(forward=1))):
        poses = walk(motion, 33)[::4]
        assert torch.allclose(told_motions(poses), relative_poses(poses.float()), atol=1e-3)
    faster = walk(Motion(forward=2), 33)[::4]
    assert told_motions(faster)[1:, 2, 3] == pytest.approx(2.0)


def test_frames_at_their_own_places_have_the_angles_that_the_server_gives_them() -> None:
    shape = VideoShape(num_frames=9, height=32, width=48)
    grid = (shape.latent_height // PATCH[1], shape.latent_width // PATCH[2])
    table = PlaceTable(shape, TOY, CPU)
    plain = table.at(torch.arange(3)[None])
    assert torch.equal(plain.sin[0], rotary_table((3, *grid), TOY.dit.head_dim, device=CPU).sin)
    late = rotary_table((5, *grid), TOY.dit.head_dim, device=CPU).cos.unflatten(0, (5, -1))
    assert torch.equal(table.at(torch.tensor([[0, 4]])).cos[0], late[[0, 4]].flatten(0, 1))


def test_a_vae_begins_without_a_past_and_can_learn_one() -> None:
    torch.manual_seed(0)
    vae = VAE(TOY)
    one = torch.randn(1, 3, 17, 32, 48)
    other = torch.cat([torch.randn(1, 3, 5, 32, 48), one[:, :, 5:]], dim=2)
    late = [vae.encode(pixels)[:, :, -2:] for pixels in (one, other)]
    assert torch.equal(*late)
    for layer in vae.encoder.modules():
        if isinstance(layer, CausalConv3d):
            nn.init.normal_(layer.weight, std=0.1)
    late = [vae.encode(pixels)[:, :, -2:] for pixels in (one, other)]
    assert not torch.allclose(*late, atol=1e-3)


def test_nobody_trains_on_a_part_of_the_clips(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="holds no clips"):
        next(read_shards(tmp_path))
    (tmp_path / "facts.json").write_text('{"clips": 250}')
    for number in (0, 2):
        save_shard(shard_path(tmp_path, number), {"latents": torch.zeros(1)}, ["a hill"])
    with pytest.raises(ConfigurationError, match=r"lacks 1 of 3 shards, 00001\.safetensors first"):
        next(read_shards(tmp_path))
    save_shard(shard_path(tmp_path, 1), {"latents": torch.zeros(1)}, ["a tree"])
    captions = [text for _, texts in read_shards(tmp_path) for text in texts]
    assert captions == ["a hill", "a tree", "a hill"]
