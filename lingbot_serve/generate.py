"""One clip over HTTP, from the request to the files."""

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from lingbot_serve.client import Video, VideoClient, VideoRequest, require_completed
from lingbot_serve.errors import ClientError
from lingbot_serve.progress import progress_view
from lingbot_serve.serve import running_cluster
from lingbot_serve.settings import ServerFlags, free_port, read_settings

# The one clip is over or deleted by then.
DRAIN_TIMEOUT_S = 5.0


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


def generate_embedded(
    flags: ServerFlags, request: VideoRequest, outputs: Outputs, console: Console
) -> Video:
    """Makes one clip on a cluster that lives only for it.

    Args:
        flags: Of the cluster; its port and data folder are chosen here.
        request: What to make.
        outputs: Where the results go.
        console: Where progress is shown.

    Raises:
        LingBotError: The cluster did not start, or see `generate_remote`.
    """
    with TemporaryDirectory(prefix="lingbot-serve-") as folder:
        own = replace(flags, port=free_port(), data_dir=Path(folder))
        cluster = running_cluster(read_settings(own), console, drain_timeout_s=DRAIN_TIMEOUT_S)
        with cluster as address:
            return generate_remote(address, request, outputs, console)


def generate_remote(
    address: str, request: VideoRequest, outputs: Outputs, console: Console
) -> Video:
    """Asks a running server for one clip, shows its progress, and stores it.

    Interrupted while it waits, it cancels the job, so that no gang works for nobody.

    Raises:
        ApiError: The server refused the request.
        VideoFailedError: It accepted it and failed.
        ServerUnreachableError: It stopped answering.
    """
    outputs.make_folders()
    with VideoClient(address) as client:
        return _generate(client, request, outputs, console)


def _generate(
    client: VideoClient, request: VideoRequest, outputs: Outputs, console: Console
) -> Video:
    created = client.create(request)
    try:
        video = _watch(client, created, console)
    except BaseException:
        with suppress(ClientError):
            client.delete(created.id)
        raise
    require_completed(video)
    client.download(video.id, outputs.video)
    if outputs.tensors is not None:
        client.download(video.id, outputs.tensors, variant="tensors")
    return video


def _watch(client: VideoClient, created: Video, console: Console) -> Video:
    for note in created.notes:
        console.print(f"note: {note}")
    video = created
    with progress_view(console) as view:
        for video in client.watch(created.id):
            view.show(video)
    return video
