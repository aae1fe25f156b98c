"""When the frames of a training clip are: what a model has to know to make longer clips.

A clip's motions are told from frame to frame, so a model must sum them up, and one that counts the
frames of its clip, or goes by how much of it is over, goes wrong in a longer one. Neither is right
where frames are left out or a clip is slow for a part: there it takes place times rate.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from model.nano.sizes import NanoSize
from model.patches import PATCH
from model.rope import RotaryTable, rotary_table
from model.types import VideoShape

_THROUGHOUT = 2 / 3  # share of slow clips that are slow from end to end


@dataclass(frozen=True, slots=True)
class Timing:
    """Some frames of several clips, all counted in latent frames.

    Args:
        chosen: Numbers of the frames in their clips, ascending from 0: [B, K].
        places: When each is, in order: [B, K].
        slow: Whether time runs at half the clip's rate before it: [B, K].
    """

    chosen: Tensor
    places: Tensor
    slow: Tensor

    def of(self, clips_BCFhw: Tensor) -> Tensor:
        """The chosen frames, [B, C, K, h, w]."""
        rows = torch.arange(len(clips_BCFhw), device=clips_BCFhw.device)[:, None]
        frames_BKChw: Tensor = clips_BCFhw[rows, :, self.chosen]
        return frames_BKChw.transpose(1, 2)

    def motions(self, whole_BF44: Tensor, half_BF44: Tensor) -> Tensor:
        """What the model is told of each frame: the motion since the place before it, [B, K, 4, 4].

        Args:
            whole_BF44: Since the frame before.
            half_BF44: In the second half of that time.
        """
        chosen = self.chosen[..., None, None].expand(-1, -1, 4, 4)
        whole, half = (motions.gather(1, chosen) for motions in (whole_BF44, half_BF44))
        return torch.where(self.slow[..., None, None], half, whole)


def draw_timing(slowed_B: Tensor, num_frames: int, kept: int) -> Timing:
    """Draws when the frames of several clips are.

    Args:
        slowed_B: Of each clip, how likely it runs at half its rate: two thirds of those that do
            throughout, the others up to a frame or from one on.
        num_frames: Of each.
        kept: How many are chosen; the first always is.
    """
    count, device = len(slowed_B), slowed_B.device
    number = torch.arange(num_frames, device=device)
    cut = torch.randint(num_frames, (count, 1), device=device)
    is_slowed = torch.rand(count, 1, device=device) < slowed_B[:, None]
    throughout = torch.rand(count, 1, device=device) < _THROUGHOUT
    first_part = torch.rand(count, 1, device=device) < 0.5
    slow = is_slowed & (throughout | ((number <= cut) == first_part))
    places = F.pad(1 + slow[:, 1:].long(), (1, 0)).cumsum(1)
    order = torch.rand(count, num_frames - 1, device=device).argsort(1)
    chosen = F.pad(order[:, : kept - 1].sort(1).values + 1, (1, 0))
    return Timing(chosen, places.gather(1, chosen), slow.gather(1, chosen))


class PlaceTable:
    """Angles of the tokens of frames at any places of a clip that is twice as long.

    Args:
        shape: Of the training clips.
        size: Of the model.
        device: Where the tables are wanted.
    """

    def __init__(self, shape: VideoShape, size: NanoSize, device: torch.device) -> None:
        places = 2 * shape.latent_frames - 1
        grid = (places, shape.latent_height // PATCH[1], shape.latent_width // PATCH[2])
        table = rotary_table(grid, size.dit.head_dim, device=device)
        self._by_place = [part.unflatten(0, (places, -1)) for part in (table.cos, table.sin)]

    def at(self, places_BK: Tensor) -> RotaryTable:
        """Tables of several clips, [B, L, 1, H] each."""
        cos, sin = (part[places_BK].flatten(1, 2) for part in self._by_place)
        return RotaryTable(cos, sin)
