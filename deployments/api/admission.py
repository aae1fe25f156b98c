"""From what a client sent to what the stages get: every check and default in one place."""

import secrets
import time
from dataclasses import dataclass
from unicodedata import category

import numpy as np
import numpy.typing as npt

from deployments.api.create_body import CreateBody
from deployments.api.schema import CameraBody, Priority, VideoCreate
from deployments.api.uploads import decode_npy
from deployments.gateway_config import GatewayConfig, Limits
from deployments.ids import JobIds
from deployments.jobs.tables import Job
from deployments.messages import GenerateRequest
from model.errors import InvalidInputError
from model.geometry import check_camera, resolve_shape
from model.prompts import DEFAULT_NEGATIVE_PROMPT
from model.types import FPS, CameraPath, SamplerSettings, UInt8Array, VideoShape

_HARMFUL = ("Cc", "Cs")  # of Unicode's categories: controls and halves of characters
_WHITE = "\t\n\r"
_SAMPLER_FIELDS = (
    "num_inference_steps",
    "guidance_scale",
    "guidance_scale_2",
    "flow_shift",
    "boundary_ratio",
    "sampler",
)


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request that a gang may see, and what was changed of it."""

    request: GenerateRequest
    notes: tuple[str, ...]
    priority: Priority


def admit(body: CreateBody, image: UInt8Array, config: GatewayConfig, ids: JobIds) -> Admitted:
    """Checks one create request against the limits and fills in the defaults.

    The prompt's token count is not checked here: only the text encoder can count.

    Args:
        body: The request as it came.
        image: Its first frame, [H, W, 3].
        config: Preset and limits.
        ids: The names of the job.

    Raises:
        InvalidInputError: Names the field and the remedy.
    """
    fields, limits = body.fields, config.limits
    _check_constants(fields, config)
    _check_text("prompt", fields.prompt)
    _check_text("negative_prompt", fields.negative_prompt or "")
    camera = read_camera(body, limits)
    asked = _num_frames(fields, config)
    shape = _shape(fields, config, image, camera, asked)
    request = GenerateRequest(
        ids=ids,
        prompt=fields.prompt,
        negative_prompt=fields.negative_prompt or DEFAULT_NEGATIVE_PROMPT,
        image=image,
        camera=camera,
        shape=shape,
        sampler=_sampler(fields, config),
        seed=secrets.randbelow(2**31) if fields.seed is None else fields.seed,
        return_tensors=fields.return_tensors,
        due_at_s=None if fields.deadline_s is None else time.time() + fields.deadline_s,
        size=fields.size or config.generation.size,
    )
    return Admitted(request, _notes(asked, shape, camera), fields.priority)


def new_job(admitted: Admitted, model_name: str) -> Job:
    """The row of an admitted request."""
    request = admitted.request
    return Job(
        id=request.job_id,
        model=model_name,
        prompt=request.prompt,
        width=request.shape.width,
        height=request.shape.height,
        num_frames=request.shape.num_frames,
        seed=str(request.seed),
        num_inference_steps=request.sampler.num_inference_steps,
        notes=list(admitted.notes),
        due_at_s=request.due_at_s,
        priority=admitted.priority,
    )


def read_camera(body: CreateBody, limits: Limits) -> CameraPath | None:
    """The camera path of a request, from its JSON or its two files; None without one.

    Raises:
        InvalidInputError: One file lacks the other, both forms are sent, or the path is bad.
    """
    names = [name for name in ("poses", "intrinsics") if name in body.files]
    if not names and body.fields.camera is None:
        return None
    if names and body.fields.camera is not None:
        raise InvalidInputError("camera", "is sent as JSON and as files; send one of them")
    if len(names) == 1:
        missing = "intrinsics" if names == ["poses"] else "poses"
        raise InvalidInputError(missing, f"is required beside {names[0]}; send both .npy files")
    if body.fields.camera is not None:
        camera = _camera_of_json(body.fields.camera)
    else:
        camera = CameraPath(
            *(decode_npy(body.files[n], field=n, max_rows=limits.max_poses) for n in names)
        )
    if len(camera.poses) > limits.max_poses:
        raise InvalidInputError("camera.poses", f"send at most {limits.max_poses} poses")
    check_camera(camera)
    return camera


def _camera_of_json(camera: CameraBody) -> CameraPath:
    return CameraPath(
        poses=_array("camera.poses", camera.poses, "camera-to-world matrices [N,4,4]"),
        intrinsics=_array("camera.intrinsics", camera.intrinsics, "fx, fy, cx, cy rows [N,4]"),
    )


def _array(field: str, rows: object, wanted: str) -> npt.NDArray[np.floating]:
    try:
        return np.asarray(rows, dtype=np.float64)
    except ValueError as error:
        raise InvalidInputError(field, f"has rows of unequal length; send {wanted}") from error


def _num_frames(fields: VideoCreate, config: GatewayConfig) -> int:
    if fields.num_frames is not None:
        return fields.num_frames
    return config.generation.num_frames if fields.seconds is None else fields.seconds * FPS + 1


def _shape(
    fields: VideoCreate,
    config: GatewayConfig,
    image: UInt8Array,
    camera: CameraPath | None,
    num_frames: int,
) -> VideoShape:
    limits = config.limits
    length_field = "num_frames" if fields.seconds is None else "seconds"
    if num_frames > limits.max_num_frames:
        raise InvalidInputError(
            length_field, f"asks for {num_frames} frames; at most {limits.max_num_frames} are made"
        )
    width, height = (int(n) for n in (fields.size or config.generation.size).split("x"))
    if width * height > limits.max_area:
        raise InvalidInputError(
            "size", f"asks for {width * height} pixels; at most {limits.max_area} are made"
        )
    return resolve_shape(
        area=width * height,
        image_height=image.shape[0],
        image_width=image.shape[1],
        num_frames=num_frames,
        num_poses=None if camera is None else len(camera.poses),
    )


def _sampler(fields: VideoCreate, config: GatewayConfig) -> SamplerSettings:
    generation = config.generation
    sent = {name: getattr(fields, name) for name in _SAMPLER_FIELDS}
    chosen = {k: getattr(generation, k) if v is None else v for k, v in sent.items()}
    return SamplerSettings(solver=chosen.pop("sampler"), **chosen)


def _check_constants(fields: VideoCreate, config: GatewayConfig) -> None:
    if fields.model not in (None, config.model_name):
        raise InvalidInputError("model", f"must be {config.model_name!r}, or left out")
    if fields.fps != FPS:
        raise InvalidInputError("fps", f"must be {FPS}, the only rate this model was made for")
    steps, limit = fields.num_inference_steps, config.limits.max_inference_steps
    if steps is not None and steps > limit:
        raise InvalidInputError("num_inference_steps", f"must be at most {limit}")


def _check_text(field: str, text: str) -> None:
    """Control characters mean nothing to the model, and harm to terminals, logs and databases."""
    bad = next((c for c in text if category(c) in _HARMFUL and c not in _WHITE), None)
    if bad is not None:
        raise InvalidInputError(field, f"holds the control character {bad!a}; leave it out")


def _notes(asked: int, shape: VideoShape, camera: CameraPath | None) -> tuple[str, ...]:
    if camera is None or shape.num_frames == asked:
        return ()
    return (
        f"num_frames capped from {asked} to {shape.num_frames}: "
        f"the camera path has {len(camera.poses)} poses",
    )
