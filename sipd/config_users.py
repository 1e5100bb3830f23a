"""The section [users] of the configuration: who may log in, and by what."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator

from sipd.config_limits import Section
from sipd.config_trunks import Every

#: Digest algorithms and the length of their HA1 in hexadecimal digits (RFC 7616 s3.2, RFC 8760 s2.3).
HA1_DIGITS = {"MD5": 32, "SHA-256": 64, "SHA-512-256": 64}

Algorithm = Literal["MD5", "SHA-256", "SHA-512-256"]
Algorithms = Annotated[tuple[Algorithm, ...], Field(strict=False)]

#: What joins letters in some scripts; Python does not count them among the printable.
_JOINERS = re.compile("[\u200c\u200d]")


def is_user_name(name: str) -> bool:
    """True for what may stand before the domain of an address-of-record: RFC 7616 s4 asks for all characters of RFC
    7613 s3.3 but the colon, so letters, digits and marks of any script, and no spaces. In a URI they are escaped."""
    return 0 < len(name) <= 128 and _JOINERS.sub("", name).isprintable() and " " not in name and ":" not in name


def user_name(name: str) -> str:
    """The name of a user as the configuration writes it, if it is one. Raises ValueError."""
    if not is_user_name(name.rpartition("@")[0] if "@" in name else name):
        raise ValueError("a name is 1 to 128 letters, digits and marks, without spaces and colons (and @domain for a "
                         "tenant's user)")
    return name


UserName = Annotated[str, AfterValidator(user_name)]


class UserEntry(Section):
    """One entry of [users]: a password, or HA1s, and what belongs to them. A plain string is a password."""

    password: SecretStr | None = Field(default=None, max_length=128)
    display_name: str = Field(default="", max_length=128)
    #: Empty: those of [auth].
    algorithms: Algorithms = ()
    #: Algorithm to H(user:realm:password) in hexadecimal, instead of a password.
    ha1: dict[Algorithm, SecretStr] = Field(default_factory=dict)
    #: Ask this user's phones whether they answer; None: as [qualify] users says.
    qualify: Every | None = None

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        if isinstance(value, (str, SecretStr)):
            return {"password": value}
        if not isinstance(value, dict):
            raise ValueError("a password in quotation marks, or a table with password or ha1")
        return value

    @field_validator("display_name")
    @classmethod
    def _printable(cls, value: str) -> str:
        if not value.isprintable():
            raise ValueError("printable text")
        return value

    @field_validator("ha1")
    @classmethod
    def _digits(cls, value: dict[Algorithm, SecretStr]) -> dict[Algorithm, SecretStr]:
        for algorithm, secret in value.items():
            if not re.fullmatch(rf"[0-9a-fA-F]{{{HA1_DIGITS[algorithm]}}}", secret.get_secret_value()):
                raise ValueError(f"{algorithm} needs {HA1_DIGITS[algorithm]} hexadecimal digits")
        return {algorithm: SecretStr(secret.get_secret_value().lower()) for algorithm, secret in value.items()}

    @model_validator(mode="after")
    def _one_secret(self) -> UserEntry:
        if bool(self.password) == bool(self.ha1) or self.password is not None and not self.password.get_secret_value():
            raise ValueError("a password that is not empty, or ha1, one of the two")
        return self
