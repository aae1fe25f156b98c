"""The `lingbot-serve` command: flags into values, errors into exit codes."""

from pathlib import Path

import typer
import yaml
from rich.console import Console

from deployments.serve_config import serve_config
from lingbot_serve import options, simulate_options
from lingbot_serve.artifacts.command import app as artifacts_app
from lingbot_serve.bench.commands import app as bench_app
from lingbot_serve.canary import send_canary
from lingbot_serve.client.inputs import CameraFiles, VideoOptions
from lingbot_serve.exit_codes import EPILOG, errors_as_exit_codes
from lingbot_serve.generate import Outputs, Wish, generate_embedded, generate_remote
from lingbot_serve.jobs.command import app as jobs_app
from lingbot_serve.keys.command import app as keys_app
from lingbot_serve.models.command import app as models_app
from lingbot_serve.planning.command import plan
from lingbot_serve.serve import serve_until_stopped
from lingbot_serve.settings import ServerFlags, read_settings
from lingbot_serve.simulate import (
    SimulationSettings,
    as_json,
    compare_policies,
    print_comparison,
)
from model.errors import InvalidInputError

app = typer.Typer(
    help="Serves the LingBot-World video world models, and makes clips with them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command(epilog=EPILOG)(plan)
app.add_typer(jobs_app, name="jobs")
app.add_typer(models_app, name="models")
app.add_typer(keys_app, name="keys")
app.add_typer(artifacts_app, name="artifacts")
app.add_typer(bench_app, name="bench")


@app.command(epilog=EPILOG)
def serve(
    checkpoint: options.Checkpoint = None,
    config: options.Config = None,
    gang_size: options.GangSize = None,
    host: options.Host = None,
    port: options.Port = None,
    auth: options.Auth = None,
) -> None:
    """Serve /v1/videos until Ctrl-C or SIGTERM; running clips are finished first."""
    flags = ServerFlags(
        config=config, checkpoint=checkpoint, gang_size=gang_size, host=host, port=port, auth=auth
    )
    with errors_as_exit_codes():
        serve_until_stopped(read_settings(flags), _console())


@app.command(epilog=EPILOG)
def canary(
    server: options.CanaryServer,
    api_key: options.ApiKey = None,
    timeout: options.CanaryTimeout = 600.0,
) -> None:
    """Send a tiny job to a running server and check its video; for a CronJob."""
    with errors_as_exit_codes():
        sighting = send_canary(server, api_key=api_key, timeout_s=timeout)
        _console().print(f"{sighting.num_frames} frames after {sighting.seconds:.1f} s")


@app.command(epilog=EPILOG)
def render(
    config: options.Config = None,
    checkpoint: options.Checkpoint = None,
    gang_size: options.GangSize = None,
) -> None:
    """Print the configuration as Serve's own file, for `serve deploy` and RayService."""
    flags = ServerFlags(config=config, checkpoint=checkpoint, gang_size=gang_size)
    with errors_as_exit_codes():
        print(yaml.safe_dump(serve_config(read_settings(flags)), sort_keys=False), end="")


@app.command(epilog=EPILOG)
def generate(
    image: options.Image,
    output: options.Output,
    prompt: options.Prompt = None,
    prompt_file: options.PromptFile = None,
    negative_prompt: options.NegativePrompt = None,
    camera: options.Camera = None,
    tensors: options.Tensors = None,
    server: options.Server = None,
    api_key: options.ApiKey = None,
    size: options.Size = None,
    num_frames: options.NumFrames = None,
    steps: options.Steps = None,
    solver: options.SolverName = None,
    shift: options.Shift = None,
    guidance: options.Guidance = None,
    boundary: options.Boundary = None,
    seed: options.Seed = 42,
    checkpoint: options.Checkpoint = None,
    config: options.Config = None,
    gang_size: options.GangSize = None,
    ulysses: options.Ulysses = None,
    sharding: options.ShardingName = None,
) -> None:
    """Make one clip, on a cluster of its own or (--server) on a running one."""
    high, low = _guidance_scales(guidance)
    wish = Wish(
        prompt=_prompt_text(prompt, prompt_file),
        image=image,
        camera=_camera_files(camera),
        options=VideoOptions(
            negative_prompt=negative_prompt,
            size=size,
            num_frames=num_frames,
            num_inference_steps=steps,
            sampler=solver,
            flow_shift=shift,
            guidance_scale=high,
            guidance_scale_2=low,
            boundary_ratio=boundary,
            seed=seed,
            return_tensors=None if tensors is None else True,
        ),
    )
    flags = ServerFlags(
        config=config,
        checkpoint=checkpoint,
        gang_size=gang_size,
        ulysses=ulysses,
        sharding=sharding,
    )
    _check_flags(flags, server)
    outputs, console = Outputs(video=output, tensors=tensors), _console()
    with errors_as_exit_codes():
        if server is None:
            generate_embedded(flags, wish, outputs, console)
        else:
            generate_remote(server, api_key, wish, outputs, console)
    print(output)


@app.command(epilog=EPILOG)
def simulate(
    trace: simulate_options.TraceName = "bursts",
    jobs: simulate_options.Jobs = 10_000,
    load: simulate_options.Load = 0.3,
    deadlines: simulate_options.Deadlines = True,
    gpus: simulate_options.Gpus = 512,
    gang_size: simulate_options.GangSize = 8,
    cold_start: simulate_options.ColdStart = 120.0,
    node_mtbf: simulate_options.NodeMtbf = None,
    policy: simulate_options.Policy = simulate_options.PolicyName.BOTH,
    order: simulate_options.Order = simulate_options.OrderName.FAIR,
    drain_target: simulate_options.DrainTarget = 60.0,
    target_requests: simulate_options.TargetRequests = 2.0,
    price: simulate_options.Price = 2.5,
    seed: simulate_options.Seed = 0,
    json: simulate_options.Json = False,
) -> None:
    """Simulate how scaling policies would serve a trace; starts no cluster."""
    settings = SimulationSettings(
        trace=trace,
        num_jobs=jobs,
        load=load,
        num_gpus=gpus,
        deadlines=deadlines,
        gang_size=gang_size,
        cold_start_s=cold_start,
        node_mtbf_h=node_mtbf,
        policy=policy,
        order=order,
        drain_target_s=drain_target,
        target_requests=target_requests,
        price=price,
        seed=seed,
    )
    with errors_as_exit_codes():
        comparison = compare_policies(settings)
    if json:
        print(as_json(settings, comparison))
    else:
        print_comparison(comparison, Console(highlight=False))


def _console() -> Console:
    return Console(stderr=True, highlight=False, soft_wrap=True)


def _prompt_text(prompt: str | None, prompt_file: Path | None) -> str:
    if (prompt is None) == (prompt_file is None):
        raise typer.BadParameter("give either --prompt or --prompt-file")
    if prompt_file is None:
        return prompt or ""
    try:
        return prompt_file.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"--prompt-file {prompt_file} is not UTF-8 text") from error


def _camera_files(folder: Path | None) -> CameraFiles | None:
    if folder is None:
        return None
    try:
        return CameraFiles.of_folder(folder)
    except InvalidInputError as error:
        raise typer.BadParameter(f"--{error}") from error


def _guidance_scales(text: str | None) -> tuple[float | None, float | None]:
    if text is None:
        return None, None
    try:
        high, low = (float(part) for part in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"--guidance takes HIGH,LOW such as 5,5, not {text!r}") from error
    return high, low


def _check_flags(flags: ServerFlags, server: str | None) -> None:
    given = [f"--{name.replace('_', '-')}" for name in flags.given()]
    if server is not None and given:
        raise typer.BadParameter(f"{', '.join(given)} belong to the server that --server names")
    if server is None and flags.checkpoint is None and flags.config is None:
        raise typer.BadParameter("give --checkpoint (or a --config that names one), or --server")
