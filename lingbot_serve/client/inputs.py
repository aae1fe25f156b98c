"""From what callers have in their hands to the form that `POST /v1/videos` takes."""

import io
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Literal, TypedDict

import numpy as np
import numpy.typing as npt
from PIL import Image

from model.errors import InvalidInputError
from model.types import CameraPath, Solver

Upload = tuple[str, bytes, str]  # file name, content, media type
ImageInput = Path | str | bytes | Image.Image


@dataclass(frozen=True, slots=True)
class CameraFiles:
    """The camera path as it is uploaded.

    Args:
        poses: `.npy` of camera-to-world matrices [N, 4, 4].
        intrinsics: `.npy` of fx, fy, cx, cy rows [N, 4].
    """

    poses: Path
    intrinsics: Path

    @classmethod
    def of_folder(cls, folder: Path) -> "CameraFiles":
        """Those of a folder that holds `poses.npy` and `intrinsics.npy`.

        Raises:
            InvalidInputError: One is missing.
        """
        files = cls(poses=folder / "poses.npy", intrinsics=folder / "intrinsics.npy")
        missing = [path.name for path in (files.poses, files.intrinsics) if not path.is_file()]
        if missing:
            raise InvalidInputError("camera", f"{folder} lacks {' and '.join(missing)}")
        return files


CameraInput = CameraPath | CameraFiles | Path | str


class VideoOptions(TypedDict, total=False):
    """Fields of `POST /v1/videos` under the API's names; one left out is the server's choice."""

    negative_prompt: str | None
    size: str | None
    num_frames: int | None
    seconds: int | None
    num_inference_steps: int | None
    sampler: Solver | Literal["unipc", "dpm++"] | None
    flow_shift: float | None
    guidance_scale: float | None
    guidance_scale_2: float | None
    boundary_ratio: float | None
    seed: int | None
    return_tensors: bool | None
    priority: Literal["low", "normal", "high"] | None
    deadline_s: float | None


@dataclass(frozen=True, slots=True)
class VideoForm:
    """A request for one clip, as a form spells it."""

    fields: Mapping[str, str]
    files: Mapping[str, Upload]


def video_form(
    image: ImageInput, prompt: str, camera: CameraInput | None, options: VideoOptions
) -> VideoForm:
    """The form of one request.

    Args:
        image: First frame: the path of a file, its bytes, or an image of Pillow.
        prompt: What to show.
        camera: Where the camera goes: arrays, two files, or the folder that holds them.
        options: Everything else.

    Raises:
        InvalidInputError: A folder lacks one of the camera's files.
    """
    given = {name: value for name, value in options.items() if value is not None}
    fields = {"prompt": prompt} | {name: _form_value(value) for name, value in given.items()}
    return VideoForm(fields, {"input_reference": _image(image)} | _camera(camera))


def _image(image: ImageInput) -> Upload:
    if isinstance(image, (Path, str)):
        return _file(Path(image))
    if isinstance(image, bytes):
        return "image", image, "application/octet-stream"
    file = io.BytesIO()
    image.save(file, "PNG")
    return "image.png", file.getvalue(), "image/png"


def _camera(camera: CameraInput | None) -> dict[str, Upload]:
    if camera is None:
        return {}
    if isinstance(camera, CameraPath):
        return {
            "poses": _npy("poses.npy", camera.poses),
            "intrinsics": _npy("intrinsics.npy", camera.intrinsics),
        }
    files = camera if isinstance(camera, CameraFiles) else CameraFiles.of_folder(Path(camera))
    return {"poses": _file(files.poses), "intrinsics": _file(files.intrinsics)}


def _file(path: Path) -> Upload:
    media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return path.name, path.read_bytes(), media_type


def _npy(name: str, array: npt.NDArray[np.floating]) -> Upload:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return name, file.getvalue(), "application/octet-stream"


def _form_value(value: object) -> str:
    if isinstance(value, Enum):
        return str(value.value)
    return str(value).lower() if isinstance(value, bool) else str(value)
