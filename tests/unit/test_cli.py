"""What the command line refuses before anything starts, and how it names an error."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from deployments.keys.settings import AuthMode
from deployments.listeners import free_port
from lingbot_serve.cli import app
from lingbot_serve.exit_codes import ExitCode
from lingbot_serve.settings import ServerFlags, read_settings
from model.errors import ConfigurationError

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
IMAGE = ["--image", str(EXAMPLES / "image.png")]


def refusal(tmp_path: Path, *flags: str) -> str:
    """Runs `generate` with bad flags and returns what it printed."""
    arguments = ["generate", *IMAGE, "--output", str(tmp_path / "out.mp4"), *flags]
    result = CliRunner().invoke(app, arguments, env={"TERMINAL_WIDTH": "400", "COLUMNS": "400"})
    assert result.exit_code == ExitCode.BAD_INPUT
    assert not (tmp_path / "out.mp4").exists()
    return result.output


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--checkpoint", "."], "either --prompt or --prompt-file"),
        (["--checkpoint", ".", "--prompt", "a", "--prompt-file", __file__], "either --prompt or"),
        (["--prompt", "a"], "give --checkpoint"),
        (["--prompt", "a", "--checkpoint", "nowhere"], "does not exist"),
        (["--prompt", "a", "--checkpoint", ".", "--guidance", "5"], "--guidance takes HIGH,LOW"),
        (["--prompt", "a", "--checkpoint", ".", "--guidance", "5,x"], "--guidance takes HIGH,LOW"),
        (["--prompt", "a", "--checkpoint", ".", "--solver", "euler"], "dpm++"),
        (
            [
                "--prompt",
                "a",
                "--server",
                "http://127.0.0.1:1",
                "--gang-size",
                "2",
                "--ulysses",
                "1",
            ],
            "--gang-size, --ulysses belong to the server",
        ),
        (
            ["--prompt", "a", "--checkpoint", ".", "--gang-size", "4", "--ulysses", "3"],
            "ulysses_degree 3 does not divide size 4",
        ),
    ],
)
def test_generate_refuses(tmp_path: Path, flags: list[str], message: str) -> None:
    assert message in refusal(tmp_path, *flags)


def test_generate_refuses_half_a_camera(tmp_path: Path) -> None:
    (tmp_path / "poses.npy").touch()
    flags = ("--prompt", "a", "--checkpoint", ".", "--camera", str(tmp_path))
    assert "lacks intrinsics.npy" in refusal(tmp_path, *flags)


def test_silent_server_has_its_own_exit_code(tmp_path: Path) -> None:
    server = f"http://127.0.0.1:{free_port()}"
    output = tmp_path / "out.mp4"
    arguments = [*IMAGE, "--prompt", "a", "--server", server, "--output", str(output)]
    result = CliRunner().invoke(app, ["generate", *arguments])
    assert result.exit_code == ExitCode.UNREACHABLE
    assert result.output.startswith(f"error: no answer from {server}")


def test_flags_lie_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "serve.yaml"
    file.write_text(
        "pipeline: {checkpoint: /weights, denoiser: {gang: {size: 2, cpus_per_rank: 0.5}}}\n"
        "http: {port: 9000}\n"
    )
    settings = read_settings(
        ServerFlags(
            config=file,
            gang_size=4,
            sharding="per_block",
            host="0.0.0.0",
            auth=AuthMode.REQUIRED,
        )
    )
    assert settings.pipeline.checkpoint == Path("/weights")
    assert settings.pipeline.denoiser.gang.size == 4
    assert settings.pipeline.denoiser.gang.cpus_per_rank == 0.5
    assert settings.pipeline.denoiser.gang.sharding == "per_block"
    assert (settings.http.host, settings.http.port) == ("0.0.0.0", 9000)


def test_a_public_address_without_keys_is_refused(tmp_path: Path) -> None:
    arguments = ["serve", "--checkpoint", str(tmp_path), "--host", "0.0.0.0"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == ExitCode.BAD_INPUT
    for part in (
        "http.host",
        "gateway.auth.mode (--auth)",
        "required",
        "lingbot-serve keys create",
    ):
        assert part in result.output


def test_settings_without_a_checkpoint_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="checkpoint"):
        read_settings(ServerFlags(gang_size=2))
