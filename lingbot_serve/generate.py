"""One clip over HTTP, from the request to the files."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from deployments.keys.settings import AuthMode
from deployments.listeners import free_port
from lingbot_serve.client.inputs import CameraFiles, VideoOptions
from lingbot_serve.client.sync import Client, Job
from lingbot_serve.errors import ClientError
from lingbot_serve.jobs.interrupt import cancel_or_detach
from lingbot_serve.serve import running_cluster
from lingbot_serve.settings import ServerFlags, read_settings

# The one clip is over or deleted by then.
DRAIN_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Wish:
    """One clip to ask for.

    Args:
        prompt: What to show.
        image: File of the first frame: PNG, JPEG or WebP.
        camera: Where the camera goes.
        options: Everything else.
    """

    prompt: str
    image: Path
    camera: CameraFiles | None = None
    options: VideoOptions = field(default_factory=VideoOptions)


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where the results go.

    Args:
        video: The MP4.
        tensors: Safetensors of `latents` and `frames`, where they are wanted.
    """

    video: Path
    tensors: Path | None = None

    def make_folders(self) -> None:
        """Makes the folders, before any work that could not be stored."""
        for path in filter(None, (self.video, self.tensors)):
            path.parent.mkdir(parents=True, exist_ok=True)


def generate_embedded(flags: ServerFlags, wish: Wish, outputs: Outputs, console: Console) -> None:
    """Makes one clip on a cluster that lives only for it, and so does the job.

    Args:
        flags: Of the cluster; its port and data folder are chosen here.
        wish: What to make.
        outputs: Where the results go.
        console: Where progress is shown.

    Raises:
        LingBotError: The cluster did not start, or see `generate_remote`.
    """
    outputs.make_folders()
    with TemporaryDirectory(prefix="lingbot-serve-") as folder:
        own = replace(
            flags,
            host="127.0.0.1",
            auth=AuthMode.OFF,
            port=free_port(),
            data_dir=Path(folder),
        )
        cluster = running_cluster(read_settings(own), console, drain_timeout_s=DRAIN_TIMEOUT_S)
        with cluster as server, Client(server.url) as client:
            _generate(client, wish, outputs, console, _deleted_on_failure)


def generate_remote(
    address: str, api_key: str | None, wish: Wish, outputs: Outputs, console: Console
) -> None:
    """Asks a running server for one clip, shows its progress, and stores it.

    Interrupted while it waits, it asks whether to cancel the job or to leave it running.

    Raises:
        ApiError: The server refused the request.
        VideoFailedError: It accepted it and failed.
        ServerUnreachableError: It stopped answering.
    """
    outputs.make_folders()
    with Client(address, api_key=api_key) as client:
        _generate(
            client, wish, outputs, console, lambda job: cancel_or_detach(job, console, url=address)
        )


def _generate(
    client: Client,
    wish: Wish,
    outputs: Outputs,
    console: Console,
    guarded: Callable[[Job], AbstractContextManager[None]],
) -> None:
    job = client.generate(image=wish.image, prompt=wish.prompt, camera=wish.camera, **wish.options)
    for note in job.video.notes:
        console.print(f"note: {note}")
    with guarded(job):
        job.wait(progress=console)
        job.save(outputs.video)
        if outputs.tensors is not None:
            job.save(outputs.tensors, variant="tensors")


@contextmanager
def _deleted_on_failure(job: Job) -> Iterator[None]:
    """No gang works for nobody while the cluster is on its way down."""
    try:
        yield
    except BaseException:
        with suppress(ClientError):
            job.delete()
        raise
