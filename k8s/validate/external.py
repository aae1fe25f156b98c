"""What the manifests may refer to without making it."""

from functools import cached_property
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, RootModel

EXTERNAL = Path(__file__).parents[1] / "external.yaml"


class Entry(BaseModel):
    """One object that somebody else makes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    purpose: str = Field(alias="for")
    keys: list[str] = []


class External(RootModel[dict[str, dict[str, Entry]]]):
    """By kind and name."""

    @classmethod
    def read(cls, path: Path = EXTERNAL) -> "External":
        """The list in the repository."""
        return cls.model_validate(yaml.safe_load(path.read_text()))

    def names(self, kind: str) -> set[str]:
        return set(self.root.get(kind, {}))

    @cached_property
    def secret_keys(self) -> dict[str, set[str]]:
        return {name: set(entry.keys) for name, entry in self.root.get("Secret", {}).items()}

    def all_names(self) -> set[str]:
        return {name for entries in self.root.values() for name in entries}
