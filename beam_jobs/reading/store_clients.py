"""Clients of the stores: how a server is reached, by options and by the usual variables."""

from __future__ import annotations

import configparser
import datetime as dt
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from pyarrow import fs

from lvm_core.errors import UsageError

STORE_SCHEMES: Final = ("s3", "gs")
OPTION_KEYS: Final = ("endpoint_override", "scheme", "region", "anonymous")
# A store that is under load begins to answer late. The S3 client gives up after three seconds.
_S3_REQUEST_TIMEOUT_S: Final = 60.0
_S3_CONNECT_TIMEOUT_S: Final = 10.0
_GCS_RETRY_LIMIT_S: Final = 30


def store_client(scheme: str, options: tuple[tuple[str, str], ...]) -> fs.FileSystem:
    """Return the client of a store: one for the same options and variables in a process.

    `scheme` is `s3` or `gs`; `options` are pairs of a name of `OPTION_KEYS` and its value.
    """
    chosen = s3_settings(dict(options), os.environ) if scheme == "s3" else gcs_settings(dict(options), os.environ)
    return _client(scheme, tuple(sorted(chosen.items())))


@cache
def _client(scheme: str, chosen: tuple[tuple[str, Any], ...]) -> fs.FileSystem:
    if scheme == "s3":
        # Without a delayed open each file is an upload of several requests, however small it is:
        # a killed process would leave it half done, and the store keeps and bills it.
        timeouts = {"request_timeout": _S3_REQUEST_TIMEOUT_S, "connect_timeout": _S3_CONNECT_TIMEOUT_S}
        return fs.S3FileSystem(**dict(chosen), **timeouts, allow_delayed_open=True)
    return fs.GcsFileSystem(**dict(chosen), retry_time_limit=dt.timedelta(seconds=_GCS_RETRY_LIMIT_S))


def s3_settings(options: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str | bool]:
    """Return the arguments of the S3 client.

    Credentials, regions, AWS_PROFILE and the files of the AWS tools are read by the client itself.
    What it leaves out, other servers than Amazon's and proxies, is added here.
    """
    chosen = _typed(options)
    if "endpoint_override" not in chosen and (url := s3_endpoint(environment)) is not None:
        place = urlsplit(url if "://" in url else f"https://{url}")
        chosen = {"scheme": place.scheme, **chosen, "endpoint_override": place.netloc}
    host = str(chosen.get("endpoint_override", "s3.amazonaws.com"))
    proxy = _proxy(str(chosen.get("scheme", "https")), host, environment)
    if proxy is not None:
        chosen["proxy_options"] = proxy
    return chosen


def s3_endpoint(environment: Mapping[str, str]) -> str | None:
    """Return the URL of the S3 server by variables and the AWS configuration file.

    In this order: AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, the profile's `services` and its
    `endpoint_url`; None for Amazon's own.
    """
    if environment.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
        return None
    url = _first(environment, "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    if url is not None:
        return url
    config = configparser.RawConfigParser(strict=False)
    path = Path(environment.get("AWS_CONFIG_FILE") or "~/.aws/config").expanduser()
    try:
        config.read(path, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read as an AWS configuration file ({type(error).__name__})") from error
    profile = _first(environment, "AWS_PROFILE", "AWS_DEFAULT_PROFILE") or "default"
    names = (profile, f"profile {profile}") if profile == "default" else (f"profile {profile}",)
    section = {key: value for name in names if config.has_section(name) for key, value in config.items(name)}
    services = f"services {section.get('services', '')}"
    if config.has_section(services):
        of_s3 = (line.partition("=") for line in config.get(services, "s3", fallback="").splitlines())
        for key, _, value in of_s3:
            if key.strip() == "endpoint_url":
                return value.strip()
    return section.get("endpoint_url")


def gcs_settings(options: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str | bool]:
    """Return the arguments of the GCS client.

    Credentials and proxies are read by the client itself. STORAGE_EMULATOR_HOST, which Google's
    other clients follow, is added here: they ask an emulator without credentials.
    """
    chosen = {name: value for name, value in _typed(options).items() if name != "region"}
    emulator = environment.get("STORAGE_EMULATOR_HOST", "")
    if emulator and "endpoint_override" not in chosen:
        place = urlsplit(emulator if "://" in emulator else f"http://{emulator}")
        chosen = {"anonymous": True, **chosen, "endpoint_override": place.netloc, "scheme": place.scheme}
    return chosen


def _typed(options: Mapping[str, str]) -> dict[str, str | bool]:
    chosen: dict[str, str | bool] = dict(options)
    if "anonymous" in chosen:
        chosen["anonymous"] = str(chosen["anonymous"]).lower() in ("1", "true", "yes")
    return chosen


def _first(environment: Mapping[str, str], *names: str) -> str | None:
    return next((environment[name] for name in names if environment.get(name)), None)


def _proxy(scheme: str, host: str, environment: Mapping[str, str]) -> str | None:
    """Return the proxy of HTTP_PROXY, HTTPS_PROXY and NO_PROXY, in either case, for a host."""
    name = f"{scheme}_proxy"
    proxy = _first(environment, name, name.upper())
    if proxy is None or _needs_no_proxy(host, _first(environment, "no_proxy", "NO_PROXY") or ""):
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    if urlsplit(proxy).port is None:
        raise UsageError(f"{name.upper()} has no port; expected http://HOST:PORT, or http://NAME:PASSWORD@HOST:PORT")
    return proxy


def _needs_no_proxy(host: str, no_proxy: str) -> bool:
    """Tell whether a list such as `localhost, .example.org, *` names a host or its domain."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    listed = [one.strip().lstrip(".") for one in no_proxy.split(",")]
    return any(one in ("*", host, name) or (one != "" and name.endswith(f".{one}")) for one in listed)
