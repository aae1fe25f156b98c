"""Pictures of a world by ray casting; also the judge of what a clip should have shown.

Shapes: N frames, H and W pixels, P things, R rays.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from model.camera import rays, scale_intrinsics
from model.nano.paths import EYE_HEIGHT_M, INTRINSICS
from model.nano.world import COLOURS, GROUNDS, NUM_COLUMNS, NUM_THINGS, Light, World, light
from model.types import VideoShape

_FAR_M = 1e4
_GROUND, SKY = NUM_THINGS, NUM_THINGS + 1
_RAYS_AT_ONCE = {"cpu": 2**18, "cuda": 2**23}
_SAMPLES = 2  # rays per pixel and axis
# Their weights, its neighbours' halves included: as through a lens, no edge is sharp to the pixel.
_TENT = (1 / 8, 3 / 8, 3 / 8, 1 / 8)


@dataclass(frozen=True, slots=True)
class Picture:
    """A rendered clip.

    Args:
        pixels: RGB float32 [3, N, H, W] in [-1, 1].
        seen: Share of each frame that shows each thing, float32 [N, P].
    """

    pixels: Tensor
    seen: Tensor


@torch.no_grad()
def render(world: World, poses_N44: Tensor, shape: VideoShape, *, device: torch.device) -> Picture:
    """Renders a clip.

    Args:
        world: What there is.
        poses_N44: Camera-to-world of every frame, metres; `shape.num_frames` of them.
        shape: Size of the clip.
        device: Where to compute.
    """
    frames = [
        _render_frames(world, poses, lights, shape, device)
        for poses, lights in batches(world, poses_N44, shape, device)
    ]
    pixels, seen = (torch.cat(parts) for parts in zip(*frames, strict=True))
    return Picture(pixels.permute(3, 0, 1, 2) * 2 - 1, seen)


def batches(
    world: World, poses_N44: Tensor, shape: VideoShape, device: torch.device
) -> Iterator[tuple[Tensor, Light]]:
    per_frame = shape.height * shape.width * _SAMPLES**2
    count = max(1, _RAYS_AT_ONCE[device.type] // per_frame)
    lights = light(world, len(poses_N44))
    for start in range(0, len(poses_N44), count):
        part = slice(start, start + count)
        fields = (getattr(lights, name)[part].to(device) for name in Light.__slots__)
        yield poses_N44[part].float().to(device), Light(*fields)


def _render_frames(
    world: World, poses_N44: Tensor, lights: Light, shape: VideoShape, device: torch.device
) -> tuple[Tensor, Tensor]:
    origin, direction = fine_rays(poses_N44, shape)
    run = _trace_compiled if device.type == "cuda" else trace
    colour_NR3, index_NR = run(scene_of(world, device), origin, direction, lights)
    seen = torch.stack([(index_NR == p).float().mean(1) for p in range(NUM_THINGS)], dim=1)
    return gather(colour_NR3, shape), seen.cpu()


def fine_rays(poses_N44: Tensor, shape: VideoShape) -> tuple[Tensor, Tensor]:
    """Origins and directions of the rays of a clip, several a pixel: [N, R, 3] each."""
    fine = fine_shape(shape)
    intrinsics = scale_intrinsics(torch.tensor(INTRINSICS), fine)
    rays_NHWC = rays(poses_N44, intrinsics, fine.height, fine.width)
    origin, direction = rays_NHWC.flatten(1, 2).split(3, dim=-1)
    return origin, direction


def gather(colour_NR3: Tensor, shape: VideoShape) -> Tensor:
    """Pixels of the rays through them and around them: [N, H, W, 3]."""
    fine = fine_shape(shape)
    colour = colour_NR3.unflatten(1, (fine.height, fine.width)).permute(0, 3, 1, 2)
    tent = torch.tensor(_TENT, device=colour.device)
    kernel = torch.outer(tent, tent).expand(3, 1, -1, -1)
    around = F.pad(colour, (1, 1, 1, 1), mode="replicate")
    return F.conv2d(around, kernel, stride=_SAMPLES, groups=3).permute(0, 2, 3, 1)


def fine_shape(shape: VideoShape) -> VideoShape:
    """The size of a clip in rays."""
    return VideoShape(shape.num_frames, shape.height * _SAMPLES, shape.width * _SAMPLES)


@dataclass(frozen=True, slots=True)
class Scene:
    """A world's numbers on a device; of things [P, ...], see `World`."""

    centres: Tensor
    halves: Tensor
    cos: Tensor
    sin: Tensor
    bands: Tensor
    colours: Tensor
    ground: Tensor
    tiles: Tensor
    hills: Tensor
    hill_colour: Tensor
    sun: Tensor


def scene_of(world: World, device: torch.device) -> Scene:
    fields = (
        world.centres,
        world.halves,
        world.headings.cos(),
        world.headings.sin(),
        world.bands,
        torch.tensor([COLOURS[name] for name in world.colours]),
        torch.tensor(GROUNDS[world.ground]),
        world.tiles,
        world.hills,
        world.hill_colour,
        world.sun,
    )
    return Scene(*(field.to(device) for field in fields))


def trace(scene: Scene, origin: Tensor, direction: Tensor, lights: Light) -> tuple[Tensor, Tensor]:
    """Follows rays to what they hit.

    Args:
        scene: The world.
        origin: Where rays start, [N, R, 3].
        direction: Unit vectors, [N, R, 3].
        lights: Of each frame.

    Returns:
        Colours [N, R, 3] in [0, 1], and which thing was hit [N, R], `NUM_THINGS` or more for none.
    """
    distance, index = nearest(scene, origin, direction)
    return colours(scene, origin, direction, distance, index, lights), index


def colours(
    scene: Scene, origin: Tensor, direction: Tensor, distance: Tensor, index: Tensor, lights: Light
) -> Tensor:
    """How what rays hit looks, [N, R, 3] in [0, 1].

    Args:
        scene: The world.
        origin: Where rays start, [N, R, 3].
        direction: Unit vectors, [N, R, 3].
        distance: From `nearest`, [N, R].
        index: Likewise.
        lights: Of each frame.
    """
    point = origin + distance.clamp(max=200.0)[..., None] * direction
    albedo, normal = _surface(scene, point, index)
    lit = _shade(albedo, normal, scene.sun, lights)
    haze = torch.exp(-lights.fog[:, None] * distance[..., None])
    lit = haze * lit + (1 - haze) * lights.horizon[:, None]
    is_sky = (index == SKY)[..., None]
    return torch.where(is_sky, _sky(scene, direction, lights), lit).clamp(0, 1)


# One graph for all worlds; without it a GPU spends its time on reading and writing rays.
_trace_compiled = torch.compile(trace, dynamic=False)


def nearest(scene: Scene, origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """How far each ray goes and what it hits, [N, R] each."""
    down = direction[..., 1]
    ground = (EYE_HEIGHT_M - origin[..., 1]) / down.clamp(min=1e-6)
    on_ground = (down > 1e-4) & (ground < 150)
    distance = torch.where(on_ground, ground, _FAR_M)
    index = torch.where(on_ground, _GROUND, SKY)
    column, which = _columns(scene, origin, direction).min(-1)
    index = torch.where(column < distance, which, index)
    distance = torch.minimum(column, distance)
    box, which = _boxes(scene, origin, direction).min(-1)
    index = torch.where(box < distance, which + NUM_COLUMNS, index)
    return torch.minimum(box, distance), index


def _columns(scene: Scene, origin: Tensor, direction: Tensor) -> Tensor:
    """Distances to the columns, `_FAR_M` where a ray misses one: [N, R, columns]."""
    centre, half = scene.centres[:NUM_COLUMNS], scene.halves[:NUM_COLUMNS]
    ox, oy, oz = (origin[..., None, :] - centre).unbind(-1)
    dx, dy, dz = direction[..., None, :].unbind(-1)
    a = (dx * dx + dz * dz).clamp(min=1e-9)
    b, c = ox * dx + oz * dz, ox * ox + oz * oz - half[:, 0] ** 2
    inside = b * b - a * c
    root = inside.clamp(min=0).sqrt()
    enter_y, leave_y = _slab(oy, dy, half[:, 1])
    first = torch.maximum((-b - root) / a, enter_y)
    last = torch.minimum((-b + root) / a, leave_y)
    return _if_hit(first, torch.where(inside > 0, last, -1.0))


def _boxes(scene: Scene, origin: Tensor, direction: Tensor) -> Tensor:
    """Distances to boxes and walls, `_FAR_M` where a ray misses one: [N, R, boxes]."""
    centre, half = scene.centres[NUM_COLUMNS:], scene.halves[NUM_COLUMNS:]
    cos, sin = scene.cos[NUM_COLUMNS:], scene.sin[NUM_COLUMNS:]
    o = _to_thing(origin[..., None, :] - centre, cos, sin)
    d = _to_thing(direction[..., None, :], cos, sin)
    slabs = [_slab(o[axis], d[axis], half[:, axis]) for axis in range(3)]
    first = torch.maximum(torch.maximum(slabs[0][0], slabs[1][0]), slabs[2][0])
    last = torch.minimum(torch.minimum(slabs[0][1], slabs[1][1]), slabs[2][1])
    return _if_hit(first, last)


def _slab(origin: Tensor, direction: Tensor, half: Tensor) -> tuple[Tensor, Tensor]:
    """Where rays enter and leave the space between two parallel planes."""
    inverse = 1 / torch.where(direction.abs() < 1e-7, 1e-7, direction)
    low, high = (-half - origin) * inverse, (half - origin) * inverse
    return torch.minimum(low, high), torch.maximum(low, high)


def _if_hit(first: Tensor, last: Tensor) -> Tensor:
    return torch.where((first < last) & (first > 0.02), first, _FAR_M)


def _to_thing(vector: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """World axes to a thing's own."""
    x, y, z = vector.unbind(-1)
    return cos * x - sin * z, y, sin * x + cos * z


def _surface(scene: Scene, point: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Albedo and normal of what was hit, [N, R, 3] each."""
    thing = index.clamp(max=NUM_THINGS - 1)
    cos, sin = scene.cos[thing], scene.sin[thing]
    x, y, z = _to_thing(point - scene.centres[thing], cos, sin)
    wave = torch.sin(2 * math.pi * scene.bands[thing] * y)[..., None]
    paint = (scene.colours[thing] * (1 + 0.28 * wave)).clamp(0, 1)
    half = scene.halves[thing]
    side = _side(x / half[..., 0], y / half[..., 1], z / half[..., 2], thing < NUM_COLUMNS)
    normal = torch.stack(
        [cos * side[0] + sin * side[2], side[1], cos * side[2] - sin * side[0]], -1
    )
    is_thing = (index < NUM_THINGS)[..., None]
    up = torch.tensor([0.0, -1.0, 0.0], device=point.device)
    albedo = torch.where(is_thing, paint, _ground_albedo(scene, point))
    return albedo, torch.where(is_thing, normal, up)


def _side(x: Tensor, y: Tensor, z: Tensor, is_column: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Outward normal in the thing's axes, from a point on it in units of its half sizes."""
    on_top = torch.where(is_column, y.abs() > 0.999, y.abs() >= torch.maximum(x.abs(), z.abs()))
    radius = (x * x + z * z).clamp(min=1e-9).sqrt()
    on_x = x.abs() >= z.abs()
    side_x = torch.where(is_column, x / radius, torch.where(on_x, x.sign(), 0.0))
    side_z = torch.where(is_column, z / radius, torch.where(on_x, 0.0, z.sign()))
    return (
        torch.where(on_top, 0.0, side_x),
        torch.where(on_top, y.sign(), 0.0),
        torch.where(on_top, 0.0, side_z),
    )


def _ground_albedo(scene: Scene, point: Tensor) -> Tensor:
    waves, phases = scene.tiles
    x, z = point[..., 0] * waves[0] + phases[0], point[..., 2] * waves[1] + phases[1]
    distance = (point[..., 0] ** 2 + point[..., 2] ** 2).sqrt()
    share = 0.5 + 0.5 * torch.tanh(2 * x.sin() * z.sin()) * torch.exp(-distance / 14)
    return scene.ground[0] + (scene.ground[1] - scene.ground[0]) * share[..., None]


def _shade(albedo: Tensor, normal: Tensor, sun: Tensor, lights: Light) -> Tensor:
    """Light from the sun, from the sky and from everywhere; snow lies on what faces upwards."""
    snow = lights.whitening[:, None] * (-normal[..., 1:2]).clamp(0, 1)
    albedo = albedo + (0.93 - albedo) * snow
    direct = 0.75 * (normal * sun).sum(-1, keepdim=True).clamp(min=0) * lights.sun[:, None]
    around = lights.ambient[:, None] * (0.75 + 0.5 * lights.zenith[:, None])
    return albedo * (around + direct)


def _sky(scene: Scene, direction: Tensor, lights: Light) -> Tensor:
    up = -direction[..., 1:2]
    blend = up.clamp(0, 1) ** 0.6
    sky = lights.horizon[:, None] * (1 - blend) + lights.zenith[:, None] * blend
    is_hill = torch.sigmoid((_skyline(scene, direction) - up) * 180)
    veil = (lights.fog[:, None] * 12).clamp(0.15, 1.0)
    dim = lights.ambient[:, None] + 0.5 * lights.sun[:, None].mean(-1, keepdim=True)
    hill = scene.hill_colour * dim * (1 - veil) + lights.horizon[:, None] * veil
    sky = sky + (hill - sky) * is_hill
    cosine = (direction * scene.sun).sum(-1, keepdim=True).clamp(min=0)
    clear = (1 - lights.fog[:, None] * 12).clamp(0, 1) * (1 - lights.whitening[:, None])
    glow = torch.sigmoid((cosine - 0.985) * 500) + 0.35 * cosine**24
    shining: Tensor = sky + glow * clear * (1 - is_hill) * lights.sun[:, None]
    return shining.clamp(0, 1)


def _skyline(scene: Scene, direction: Tensor) -> Tensor:
    """Height of the hills in each direction, as a sine: [N, R, 1]."""
    azimuth = torch.atan2(direction[..., 0], direction[..., 2])[..., None]
    waves = torch.arange(1, 7, device=direction.device)
    amplitudes, phases = scene.hills
    height = (amplitudes * torch.sin(azimuth * waves + phases)).sum(-1, keepdim=True)
    skyline: Tensor = 0.10 + 0.06 * height
    return skyline
