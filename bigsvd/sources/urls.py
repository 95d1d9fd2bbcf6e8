"""Opens the store behind a URL: with obstore if that knows the protocol, otherwise with fsspec."""

from __future__ import annotations

import base64
import inspect
import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from bigsvd.errors import RequestError, SourceError, first_line
from bigsvd.sources.remote import Failure, RemoteStore
from bigsvd.units import without_credentials

# For each protocol, fsspec's name of an option and obstore's.
_S3 = {"anon": "skip_signature", "key": "access_key_id", "secret": "secret_access_key",
       "token": "session_token", "endpoint_url": "endpoint", "region_name": "region",
       "requester_pays": "request_payer"}  # fmt: skip
_GCS = {"anon": "skip_signature", "token": "application_credentials", "endpoint_url": "base_url"}
_AZURE = {"anon": "skip_signature", "endpoint_url": "endpoint", "sas_token": "sas_key"}
_SPELLINGS: dict[str, dict[str, str]] = (
    dict.fromkeys(("s3", "s3a"), _S3)
    | dict.fromkeys(("gs", "gcs"), _GCS)
    | dict.fromkeys(("az", "abfs", "abfss", "adl", "azure"), _AZURE)
)
# Options by obstore's names, of which a message shows the most common.
_NATIVE = {
    "s3": ("region", "endpoint", "skip_signature"), "gs": ("skip_signature", "base_url", "bearer_token"),
    "az": ("account_name", "account_key", "endpoint", "skip_signature", "client_id", "tenant_id"),
}  # fmt: skip
_CLIENT = ("allow_http", "allow_invalid_certificates", "connect_timeout", "read_timeout", "timeout")
# Options whose values are no secrets, and so may be printed.
_HARMLESS = {"region", "region_name", "endpoint", "endpoint_url", "anon", "skip_signature", "account_name",
             "requester_pays", *_CLIENT}  # fmt: skip
_ALIASES = {"gcs": "gs", "s3a": "s3"}
_OF_FSSPEC = ("use_listings_cache", "listings_expiry_time", "max_paths", "skip_instance_cache")
# How long to wait for a connection, for further bytes, and for a whole answer: a server that stops sending is
# given up after half a minute, while a large shard may take long. Chosen, not measured.
_CLIENT_DEFAULTS = {"connect_timeout": "10s", "read_timeout": "30s", "timeout": "1h"}


def open_url(url: str, options: Mapping[str, Any]) -> RemoteStore:
    """The store of a URL.

    `options` are those of fsspec (anon, key, secret, token, endpoint_url, account_name, …) or obstore.

    Raises:
        RequestError: an option is unknown or has no meaning.
        SourceError: the URL's protocol is unknown, or a package is missing.

    """
    name = without_credentials(url)
    scheme = url.partition("://")[0].lower()
    texts = {key: _text(key, value) for key, value in options.items()}
    secrets = tuple(text for key, text in texts.items() if key not in _HARMLESS and len(text) > 3)
    if "::" not in url and (scheme in _SPELLINGS or scheme in ("http", "https")):
        store = _by_obstore(name, url, scheme, texts, secrets)
    else:
        store = _by_fsspec(name, url, texts, secrets)
    return RemoteStore(store, name, secrets)


def _text(key: str, value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, (str, int, float)):
        raise RequestError(f"the storage option {key} is a {type(value).__name__}", "give text")
    return str(value)


def _by_obstore(name: str, url: str, scheme: str, options: dict[str, str], secrets: tuple[str, ...]) -> Any:
    """A Zarr store over obstore; it repeats no request, since `RemoteStore` does that and counts."""
    try:
        from obstore.store import HTTPStore, from_url  # noqa: PLC0415 - obstore is in the cloud extra
        from zarr.storage import ObjectStore  # noqa: PLC0415 - as it is
    except ImportError as error:
        raise SourceError(f"{name} needs obstore ({error})", "install the cloud extra") from error
    client: Any = _CLIENT_DEFAULTS | {k: v for k, v in options.items() if k in _CLIENT}
    for key in ("connect_timeout", "read_timeout", "timeout"):
        if client[key].replace(".", "").isdigit():
            client[key] += "s"
    rest = {k: v for k, v in options.items() if k not in _CLIENT}
    spellings = _SPELLINGS.get(scheme, {})
    config: Any = {spellings.get(k, k): v for k, v in rest.items()}
    if scheme in ("gs", "gcs") and config.get("application_credentials") == "anon":
        del config["application_credentials"]
        config["skip_signature"] = "true"
    endpoint = config.get("endpoint") or config.get("base_url") or os.environ.get("AWS_ENDPOINT_URL", "")
    if endpoint.startswith("http://") or scheme == "http":
        client.setdefault("allow_http", "true")
    untried: Any = {"max_retries": 0}
    try:
        if not spellings:
            if config:
                raise _unknown(min(config), scheme)
            url, header = _without_user(url)
            opened: Any = HTTPStore(url, client_options=client | header, retry_config=untried)
        else:
            if scheme == "gcs":
                url = f"gs{url[3:]}"
            opened = from_url(url, config=config, client_options=client, retry_config=untried)
        return ObjectStore(opened, read_only=True)
    except RequestError:
        raise
    except Exception as error:  # noqa: BLE001 - obstore's own kinds and ValueError; raised again below
        said, kind = without_credentials(first_line(error), secrets), type(error).__name__
    if kind == "UnknownConfigurationKeyError":
        raise _unknown(said, scheme)
    raise RequestError(f"{name} cannot be opened ({said})", "check the URL and the storage options")


def _unknown(said: str, scheme: str) -> RequestError:
    spellings = _SPELLINGS.get(scheme, {})
    names = {*spellings, *_CLIENT}
    if spellings:
        names.update(_NATIVE.get(_ALIASES.get(scheme, scheme), _NATIVE["az"]))
    known = ", ".join(sorted(names))
    return RequestError(f"unknown storage option for {scheme} URLs ({said})", f"known are {known}")


def _without_user(url: str) -> tuple[str, dict[str, Any]]:
    """An HTTP URL without user and password, and the header that carries them instead."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    if not at:
        return url, {}
    if ":" not in user:
        user += ":"
    code = base64.b64encode(unquote(user).encode()).decode()
    header = {"default_headers": {"authorization": f"Basic {code}"}}
    return urlunsplit((parts.scheme, host, parts.path, parts.query, "")), header


def _by_fsspec(name: str, url: str, options: dict[str, str], secrets: tuple[str, ...]) -> Any:
    """A Zarr store over fsspec; in a chain (``zip::s3://…``) the last protocol gets the options."""
    from zarr.storage import FsspecStore  # noqa: PLC0415 - fsspec is in the cloud extra

    switches = {"true": True, "false": False}
    typed: dict[str, Any] = {key: switches.get(text.lower(), text) for key, text in options.items()}
    protocol, separator, _ = url.rpartition("::")[2].lower().partition("://")
    if not separator:
        protocol = "file"
    nested = typed
    if "::" in url and typed:
        nested = {protocol: typed}
    try:
        if typed:
            _check_named(protocol, set(typed))
        return FsspecStore.from_url(url, storage_options=nested, read_only=True)
    except RequestError:
        raise
    except ImportError as error:
        remedy = "install that package"
        if error.name == "fsspec":
            remedy = "install the cloud extra"
        raise SourceError(f"{name} cannot be opened ({error})", remedy) from error
    except (ValueError, TypeError) as error:
        said = without_credentials(first_line(error), secrets)
    except Exception as error:  # noqa: BLE001 - each file system raises its own kind; raised again below
        failure = Failure.of(error)
        raise Failure(failure.kind, without_credentials(failure.text, secrets)).error(name) from None
    raise SourceError(f"{name} cannot be opened ({said})", "check the URL and the storage options")


def _check_named(protocol: str, options: set[str]) -> None:
    """`RequestError` for an option that the file system's constructor does not name, as fsspec ignores it.

    Some file systems hand unnamed options on to their client (HTTP to aiohttp, SSH to paramiko). Theirs are
    not checked here.
    """
    from fsspec import get_filesystem_class  # noqa: PLC0415 - fsspec is in the cloud extra

    named = set(_OF_FSSPEC)
    for kind in get_filesystem_class(protocol).__mro__[:-1]:
        if "__init__" not in vars(kind):
            continue
        for parameter in inspect.signature(vars(kind)["__init__"]).parameters.values():
            if parameter.kind is not parameter.VAR_KEYWORD:
                named.add(parameter.name)
            elif parameter.name not in ("kwargs", "storage_options") or protocol in ("http", "https"):
                return
    unknown = options - named
    if unknown:
        known = ", ".join(sorted(named - {"self", "args"}))
        raise RequestError(
            f"unknown storage option for {protocol} URLs ({min(unknown)})", f"known are {known}"
        )
