"""From command-line flags to the service's configuration."""

from dataclasses import dataclass, fields
from pathlib import Path

from pydantic import ValidationError

from deployments.config import ServeConfig, explain
from deployments.keys.settings import AuthMode
from model.errors import ConfigurationError

Settings = dict[str, object]


@dataclass(frozen=True, slots=True)
class ServerFlags:
    """Flags that lie over the configuration file; None leaves the file's value.

    Args:
        config: The YAML file; None means the defaults.
        checkpoint: Directory of the weights.
        gang_size: Ranks that denoise one clip together.
        ulysses: Ranks that share one sequence; divides `gang_size`.
        sharding: Whether the ranks split the weights.
        host: Address to listen on.
        auth: Whether calls need an API key.
        port: Port to listen on.
        data_dir: Folder of jobs and results.
    """

    config: Path | None = None
    checkpoint: Path | None = None
    gang_size: int | None = None
    ulysses: int | None = None
    sharding: str | None = None
    host: str | None = None
    auth: AuthMode | None = None
    port: int | None = None
    data_dir: Path | None = None

    def given(self) -> list[str]:
        """Names of the flags that were given."""
        return [field.name for field in fields(self) if getattr(self, field.name) is not None]


def read_settings(flags: ServerFlags) -> ServeConfig:
    """The configuration file with the flags laid over it.

    Raises:
        ConfigurationError: A setting is missing, unknown, or cannot work.
    """
    gang = _given(size=flags.gang_size, ulysses_degree=flags.ulysses, sharding=flags.sharding)
    denoiser = _given(gang=gang or None)
    overrides = _given(
        pipeline=_given(checkpoint=flags.checkpoint, denoiser=denoiser or None) or None,
        gateway=_given(data_dir=flags.data_dir, auth=_given(mode=flags.auth) or None) or None,
        http=_given(host=flags.host, port=flags.port) or None,
    )
    if flags.config is not None:
        return ServeConfig.from_yaml(flags.config, **overrides)
    try:
        return ServeConfig.model_validate(overrides)
    except ValidationError as error:
        raise ConfigurationError(f"cannot serve with these options: {explain(error)}") from error


def _given(**values: object) -> Settings:
    return {name: value for name, value in values.items() if value is not None}
