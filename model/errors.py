"""Errors of the whole project, from the bottom up.

LingBotError
├── InvalidInputError      the caller's fault: names the field and the remedy
├── ConfigurationError     the operator's fault: a setting that cannot work
├── CheckpointError        the operator's fault: files missing, foreign or misshapen
├── DenoiseCancelled       a denoise was told to stop and did
└── cluster.errors.GangError and its kinds (our fault: Ray may retry elsewhere)
"""


class LingBotError(Exception):
    """Base of every error this project raises on purpose."""


class InvalidInputError(LingBotError):
    """A request that cannot be served as it stands.

    Args:
        field: Name of the request field at fault, as the API spells it.
        problem: What is wrong and what to send instead, in one sentence.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(field, problem)
        self.field = field
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.field}: {self.problem}"


class ConfigurationError(LingBotError):
    """Settings that contradict each other or the checkpoint."""


class CheckpointError(LingBotError):
    """A checkpoint directory that cannot be loaded; the message lists every fault found."""


class DenoiseCancelled(LingBotError):
    """The denoise stopped at a step boundary because it was asked to."""
