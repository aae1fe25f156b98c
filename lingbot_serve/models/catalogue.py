"""The published checkpoints by their short names."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from lingbot_serve.models.hub import Source
from model.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A published checkpoint.

    Args:
        name: Short name; also that of its folder.
        is_served: Whether this project can make clips with it.
        licence: Of the weights.
    """

    name: str
    is_served: bool
    licence: str

    def repo(self, source: Source) -> str:
        """Its repository on a hub."""
        owner = "robbyant" if source is Source.HUGGING_FACE else "Robbyant"
        return f"{owner}/{self.name}"


_MODELS = (
    KnownModel("lingbot-world-base-cam", is_served=True, licence="Apache-2.0"),
    KnownModel("lingbot-world-base-act", is_served=False, licence="Apache-2.0"),
    KnownModel("lingbot-world-fast", is_served=False, licence="Apache-2.0"),
    KnownModel("lingbot-world-v2-14b-causal-fast", is_served=False, licence="CC BY-NC-SA 4.0"),
)
CATALOGUE: Mapping[str, KnownModel] = MappingProxyType({model.name: model for model in _MODELS})


def repo_of(name: str, repo: str | None, source: Source) -> str:
    """The repository to pull from.

    Args:
        name: A short name, or that of the folder where `repo` is given.
        repo: `owner/name`, or None to look the name up.
        source: On which hub.

    Raises:
        ConfigurationError: The name is not known, or cannot be a folder's.
    """
    if not name or name.startswith(".") or "/" in name:
        raise ConfigurationError(f"{name!r} cannot name a folder; use --repo for owner/name")
    if repo is not None:
        return repo
    if name not in CATALOGUE:
        raise ConfigurationError(
            f"no published checkpoint is called {name!r}; known are {', '.join(CATALOGUE)}. "
            "For any other give --repo OWNER/NAME"
        )
    return CATALOGUE[name].repo(source)
