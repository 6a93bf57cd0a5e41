"""Secrets that let their bearers use the server, or change its packs."""
import hashlib
import hmac
import logging
import os
import stat
from collections.abc import Mapping

from adapter_bert.errors import InputError
from adapter_bert.serve.refusal import Refusal

VARIABLE = "ADAPTER_BERT_ADMIN_TOKEN"
LEAST_LENGTH = 16


def admin(path: str | None) -> str | None:
    """The admin token: that of a file, else of the environment; None without either.

    Raises:
      InputError: it is too short to be a secret, or cannot be sent.
    """
    if path:
        return of_file(path)
    text = os.environ.get(VARIABLE, "")
    return checked(text, VARIABLE) if text else None


def client(path: str | None, admin_token: str | None) -> str | None:
    """The client token in a file; None where no file is named.

    Raises:
      InputError: as for `admin`, or it is the admin token, which every client would have then.
    """
    if path is None:
        return None
    token = of_file(path)
    if token == admin_token:
        raise InputError(f"{path}: the client token is the admin token; make another one")
    return token


def of_file(path: str) -> str:
    """The token in a file; InputError as for `admin`. A file that others may read is logged."""
    try:
        with open(path, encoding="utf-8") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                logging.warning("%s: other users of this machine may read the token; "
                                "chmod 600 it", path)
            return checked(file.read(10_000).strip(), path)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text") from error


def checked(text: str, where: str) -> str:
    """A token that can be a secret and a header; else InputError, which names where it is from."""
    if len(text) < LEAST_LENGTH or not text.isascii() or not text.isprintable() or " " in text:
        raise InputError(f"{where}: not {LEAST_LENGTH} or more letters, digits and signs in one "
                         "line; make it with openssl rand -hex 32")
    return text


def check(headers: Mapping[str, str], *tokens: str | None, name: str) -> None:
    """Refusal of a request that bears none of some tokens.

    Args:
      headers: of the request, names in lower case.
      *tokens: each a token, or None for one that was not set.
      name: what the message calls the token.
    """
    scheme, _, sent = headers.get("authorization", "").partition(" ")
    matches = [hmac.compare_digest(_digest(sent.strip()), _digest(token))
               for token in tokens if token]
    if scheme.lower() != "bearer" or not any(matches):
        raise Refusal(f"the {name} token is missing or wrong", 401,
                      {"WWW-Authenticate": "Bearer"})


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
