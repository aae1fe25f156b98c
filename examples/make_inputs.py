"""Draws the example's image and writes its camera path.

    python examples/make_inputs.py

The scene is ray-cast from the path's first pose with the same intrinsics, so that image and
camera agree. Axes are OpenCV's: x right, y down, z forward; the camera stands 1.6 m high.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

Array = npt.NDArray[np.float64]

WIDTH, HEIGHT = 832, 480
FOCAL = 500.0
NUM_POSES = 33
DOLLY_M = 2.0
YAW_DEGREES = 12.0
CAMERA_HEIGHT_M = 1.6
SUN = np.array([-0.5, -0.6, 0.4]) / np.linalg.norm([-0.5, -0.6, 0.4])
SPHERES = (  # centre x, y, z and radius in metres, then the colour
    (np.array([-1.9, 0.9, 6.5]), 0.7, np.array([0.80, 0.28, 0.20])),
    (np.array([2.2, 0.4, 9.0]), 1.2, np.array([0.22, 0.42, 0.62])),
    (np.array([0.5, 1.2, 5.0]), 0.4, np.array([0.90, 0.72, 0.28])),
)


def main() -> None:
    """Writes image.png, camera/poses.npy and camera/intrinsics.npy beside this file."""
    folder = Path(__file__).parent
    (folder / "camera").mkdir(exist_ok=True)
    Image.fromarray(render()).save(folder / "image.png", optimize=True)
    np.save(folder / "camera/poses.npy", camera_path())
    row = np.array([FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2], dtype=np.float32)
    np.save(folder / "camera/intrinsics.npy", np.tile(row, (NUM_POSES, 1)))


def camera_path() -> npt.NDArray[np.float32]:
    """Camera-to-world matrices [33, 4, 4]: forward by 2 m while turning right by 12 degrees."""
    progress = np.linspace(0.0, 1.0, NUM_POSES)
    eased = progress * progress * (3 - 2 * progress)  # starts and stops without a jerk
    yaw = np.deg2rad(YAW_DEGREES) * eased
    poses = np.tile(np.eye(4), (NUM_POSES, 1, 1))
    poses[:, 0, 0], poses[:, 0, 2] = np.cos(yaw), np.sin(yaw)
    poses[:, 2, 0], poses[:, 2, 2] = -np.sin(yaw), np.cos(yaw)
    poses[:, 2, 3] = DOLLY_M * eased
    return poses.astype(np.float32)


def render() -> npt.NDArray[np.uint8]:
    """The scene from the path's first pose: uint8 [480, 832, 3]."""
    x, y = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    rays = np.stack([(x - WIDTH / 2) / FOCAL, (y - HEIGHT / 2) / FOCAL, np.ones_like(x)], -1)
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    image, nearest = sky(rays), np.full(rays.shape[:2], np.inf)
    image, nearest = add_ground(image, nearest, rays)
    for centre, radius, colour in SPHERES:
        image, nearest = add_sphere(image, nearest, rays, centre, radius, colour)
    return (255 * np.clip(image, 0, 1) ** (1 / 2.2)).round().astype(np.uint8)


def sky(rays: Array) -> Array:
    """Linear colours of the sky, with a glow around the sun."""
    height = np.clip(-rays[..., 1:2] * 2, 0, 1)
    colour = (1 - height) * np.array([0.85, 0.70, 0.55]) + height * np.array([0.18, 0.38, 0.75])
    glow = np.clip(rays @ SUN, 0, 1)[..., None] ** 40
    return np.asarray(colour + glow * np.array([0.6, 0.5, 0.3]))


def add_ground(image: Array, nearest: Array, rays: Array) -> tuple[Array, Array]:
    """A chequered plane under the camera that fades into haze."""
    down = rays[..., 1]
    distance = np.where(down > 1e-4, CAMERA_HEIGHT_M / np.maximum(down, 1e-4), np.inf)
    seen = np.isfinite(distance)
    points = rays * np.where(seen, distance, 0.0)[..., None]
    chequer = (np.floor(points[..., 0]) + np.floor(points[..., 2])) % 2
    colour = np.where(chequer[..., None] > 0, [0.33, 0.30, 0.24], [0.20, 0.26, 0.14])
    shadow = np.ones(rays.shape[:2])
    for centre, radius, _ in SPHERES:
        shadow = np.minimum(shadow, np.where(hit_sphere(points, SUN, centre, radius) > 0, 0.4, 1))
    haze = np.exp(-np.where(seen, distance, 0.0) / 30.0)[..., None]
    colour = colour * shadow[..., None] * haze + image * (1 - haze)
    return np.where(seen[..., None], colour, image), np.minimum(nearest, distance)


def add_sphere(
    image: Array, nearest: Array, rays: Array, centre: Array, radius: float, colour: Array
) -> tuple[Array, Array]:
    """A matt sphere, where nothing nearer hides it."""
    distance = hit_sphere(np.zeros_like(rays), rays, centre, radius)
    seen = (distance > 0) & (distance < nearest)
    normals = (rays * distance[..., None] - centre) / radius
    light = 0.25 + 0.75 * np.clip(normals @ SUN, 0, 1)[..., None]
    return np.where(seen[..., None], colour * light, image), np.where(seen, distance, nearest)


def hit_sphere(origins: Array, directions: Array, centre: Array, radius: float) -> Array:
    """Distance along each ray to a sphere's near side; -1 where the ray misses it."""
    along = ((centre - origins) * directions).sum(-1)
    offset = ((centre - origins) ** 2).sum(-1) - along**2
    depth = np.sqrt(np.maximum(radius**2 - offset, 0))
    return np.where((offset < radius**2) & (along > depth), along - depth, -1.0)


if __name__ == "__main__":
    main()
