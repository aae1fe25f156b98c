"""The secret half of a key: made once, shown once, kept as a hash."""

import hashlib
import re
import secrets
from dataclasses import dataclass

_MARK = "lbs_"  # lets scanners of repositories know one
_RANDOM_BYTES = 32
_SHAPE = re.compile(rf"{_MARK}[A-Za-z0-9_-]{{43}}")
_SHOWN = len(_MARK) + 6


@dataclass(frozen=True, slots=True)
class Secret:
    """A new secret.

    Args:
        text: What the client sends.
    """

    text: str

    @property
    def prefix(self) -> str:
        """What may be shown of it, to tell it from others."""
        return self.text[:_SHOWN]

    @property
    def sha256(self) -> str:
        """What is stored of it.

        A slow hash such as argon2 makes guessing a person's password dear. These are 256 random
        bits, which nobody guesses however fast the hash, and every request hashes one.
        """
        return hashlib.sha256(self.text.encode()).hexdigest()


def new_secret() -> Secret:
    """Draws a secret of 256 random bits."""
    return Secret(_MARK + secrets.token_urlsafe(_RANDOM_BYTES))


def read_secret(text: str) -> Secret | None:
    """What a client sent, if it has the shape of a secret at all."""
    return Secret(text) if _SHAPE.fullmatch(text) else None
