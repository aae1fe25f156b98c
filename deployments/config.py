"""The one configuration file: every setting, checked when it is read, frozen after."""

import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import yaml
from pydantic import Field, ValidationError, model_validator

from cluster.logs import LogConfig
from cluster.placement import replica_bundles
from deployments.front.settings import FrontSettings
from deployments.gateway_config import GatewayConfig, TracingConfig
from deployments.keys.settings import listener_problem
from deployments.pipeline_config import PipelineConfig
from deployments.settings import Settings
from model.errors import ConfigurationError


class HttpConfig(Settings):
    """Where the gateway listens.

    Args:
        host: The address.
        port: The port.
        front: What `lingbot-serve serve` puts before it.
    """

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=1, le=65535)
    front: FrontSettings = FrontSettings()


_HANDED_DOWN = MappingProxyType({"pipeline": ("logging",), "gateway": ("logging", "tracing")})


class ServeConfig(Settings):
    """The whole service, on a laptop as on a cluster.

    Args:
        pipeline: The application that makes clips.
        gateway: The application that speaks HTTP.
        http: Where the gateway listens.
        logging: For both applications, where they set none of their own.
        tracing: For the gateway, likewise.
    """

    pipeline: PipelineConfig
    gateway: GatewayConfig = GatewayConfig()
    http: HttpConfig = HttpConfig()
    logging: LogConfig = LogConfig()
    tracing: TracingConfig = TracingConfig()

    @model_validator(mode="before")
    @classmethod
    def _hand_down(cls, raw: object) -> object:
        """Serve gives each application its own arguments only."""
        if not isinstance(raw, Mapping):
            return raw
        below = {
            application: {name: raw[name] for name in names if name in raw}
            for application, names in _HANDED_DOWN.items()
        }
        return merge({name: given for name, given in below.items() if given}, raw)

    @model_validator(mode="after")
    def _keys_before_strangers(self) -> "ServeConfig":
        problem = listener_problem(self.http.host, self.gateway.auth)
        if problem is not None:
            raise ValueError(problem)
        return self

    def read_by(self, *, terminal: bool) -> "ServeConfig":
        """The same service with `logging.format: auto` decided: its processes have no terminal.

        Args:
            terminal: Whether whoever starts the service sits at one.
        """
        settings = self.model_dump(exclude_unset=True)
        chosen = {"format": "console" if terminal else "json"}
        for section in (settings, settings["pipeline"], settings.setdefault("gateway", {})):
            logging = section.setdefault("logging", {})
            if logging.get("format", "auto") == "auto":
                section["logging"] = {**logging, **chosen}
        return ServeConfig.model_validate(settings)

    @property
    def logical_cpus(self) -> int:
        """CPUs that a local Ray has to announce so that everything finds a place."""
        pipeline = self.pipeline
        replicas = sum(s.max_replicas * s.num_cpus for s in pipeline.encoders_and_decoder)
        gang = sum(bundle["CPU"] for bundle in replica_bundles(pipeline.denoiser.gang))
        gangs = pipeline.denoiser.max_replicas * gang
        # Twice: an updated gateway starts beside the one that it replaces.
        gateways = 2 * self.gateway.num_replicas * self.gateway.num_cpus
        return math.ceil(replicas + gangs + pipeline.num_cpus + gateways)

    @classmethod
    def from_yaml(cls, path: str | Path, **overrides: object) -> "ServeConfig":
        """Reads a file and lays overrides over it.

        Args:
            path: The YAML file.
            overrides: Sections to lay over the file's, merged key by key, such as
                `pipeline={"denoiser": {"gang": {"size": 4}}}`.

        Raises:
            ConfigurationError: Unreadable, an unknown key, or a value that cannot work.
        """
        try:
            raw = yaml.safe_load(Path(path).read_text())
            return cls.model_validate(merge(raw if isinstance(raw, dict) else {}, overrides))
        except ValidationError as error:
            raise ConfigurationError(f"{path}: {explain(error)}") from error
        except (OSError, yaml.YAMLError) as error:
            raise ConfigurationError(f"{path}: {error}") from error


def explain(error: ValidationError) -> str:
    """What is wrong with some settings, a line each: where, and why."""
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    where = [".".join(map(str, fault["loc"])) or "file" for fault in faults]
    why = [fault["msg"].removeprefix("Value error, ") for fault in faults]
    return "\n".join(map(": ".join, zip(where, why, strict=True)))


def merge(base: Mapping[str, object], over: Mapping[str, object]) -> dict[str, object]:
    """Lays one tree of settings over another; a mapping merges, anything else replaces."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        both = isinstance(value, Mapping) and isinstance(below, Mapping)
        merged[key] = merge(below, value) if both else value  # type: ignore[arg-type]
    return merged
