"""How long does a request take with the shipped checkpoint, on this machine's CPU?

    python -m benchmarks.nano

The service is that of `examples/nano.yaml`; the requests are the examples', one at a time, over
HTTP to the stored file. Each has a seed and a prompt of its own, so that no cache of prompts helps.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.report import write_report
from deployments.config import ServeConfig
from deployments.launch import start_local
from deployments.listeners import free_port
from lingbot_serve import Client
from lingbot_serve.bench.machine import origin
from lingbot_serve.client.video import Video

EXAMPLES = Path("examples")


def measure(url: str, num_requests: int, folder: Path) -> list[tuple[float, Video]]:
    """Seconds from sending a request to the whole file, and what the server says of each video."""
    prompt = (EXAMPLES / "prompt.txt").read_text().strip()
    made = []
    with Client(url) as client:
        for number in range(num_requests):
            start_s = time.perf_counter()
            job = client.make(
                folder / f"{number}.mp4",
                image=EXAMPLES / "image.png",
                prompt=f"{prompt} Number {number}.",
                camera=EXAMPLES / "camera",
                seed=number,
            )
            made.append((time.perf_counter() - start_s, job.video))
    return made


def main() -> None:
    """Runs the benchmark and writes `docs/benchmarks/nano.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10)
    num_requests = parser.parse_args().requests
    others_load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        gateway = {"data_dir": str(Path(folder) / "data")}
        config = ServeConfig.from_yaml(
            EXAMPLES / "nano.yaml", gateway=gateway, http={"port": free_port()}
        )
        start_s = time.perf_counter()
        with start_local(config) as server:
            ready_s = time.perf_counter() - start_s
            made = measure(server.url, num_requests, Path(folder))
    seconds = [taken_s for taken_s, _ in made]
    video = made[-1][1]
    write_report(
        "nano",
        {
            "commit": origin(torch.device("cpu"), None).commit,
            "load_average_before_1min": round(others_load, 1),
            "clip": f"{video.num_frames} frames of {video.size}, "
            f"{config.gateway.generation.num_inference_steps} steps",
            "ready_s": round(ready_s, 1),
            "num_requests": num_requests,
            "first_s": round(seconds[0], 2),
            "median_s": round(statistics.median(seconds), 2),
            "slowest_s": round(max(seconds), 2),
            "stages_of_the_last_s": video.stage_durations,
        },
    )


if __name__ == "__main__":
    main()
