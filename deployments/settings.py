"""What the parts of the configuration file are made of."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

# Replicas work in other folders than whoever wrote the file.
AbsolutePath = Annotated[Path, AfterValidator(Path.absolute)]

# Ray's own syntax: a value, one that must not be there, or a choice of several.
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
_LABELS = rf"!?in\({_LABEL}(,{_LABEL})*\)"
LabelKey = Annotated[str, Field(pattern=rf"^([a-z0-9.-]+/)?{_LABEL}$", max_length=253)]
LabelCondition = Annotated[str, Field(pattern=rf"^(!?{_LABEL}|{_LABELS})$")]
LabelSelector = dict[LabelKey, LabelCondition]


class Settings(BaseModel):
    """One section: no unknown keys, frozen once read."""

    model_config = ConfigDict(extra="forbid", frozen=True)
