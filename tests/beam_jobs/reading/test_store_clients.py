"""How stores are reached: options, the usual variables and files, proxies; on real servers."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from beam_jobs.reading import store_clients
from beam_jobs.reading.storage import Storage
from beam_jobs.reading.store_clients import gcs_settings, s3_endpoint, s3_settings
from lvm_core.errors import UsageError
from tests.beam_jobs.fault_proxy import FaultProxy, proxy_command
from tests.beam_jobs.job_helpers import REPOSITORY
from tests.beam_jobs.job_servers import BUCKET, Store, dummy_credentials, free_port, gs_store, s3_store, server

CONTENT = b"0123456789" * 10
AWS = (
    "AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AWS_DEFAULT_REGION AWS_REGION AWS_PROFILE "
    "AWS_ENDPOINT_URL AWS_ENDPOINT_URL_S3"
).split()


@dataclass(frozen=True)
class Reached:
    """A store that no option leads to, with a proxy before it that sees what is sent."""

    store: Store
    proxy: FaultProxy

    @property
    def content(self) -> bytes:
        """A file of the store, read as a job reads it, without any option."""
        return Storage().read_bytes(self.store.uri("a.bin"))

    @property
    def authorization(self) -> str:
        """What the client authorised itself with."""
        return self.proxy.seen()[-1].authorization


def _reached(scheme: str, folder: Path) -> Iterator[Reached]:
    (folder / "proxy").mkdir()
    make = s3_store if scheme == "s3" else gs_store
    port = free_port()
    with dummy_credentials(), make(folder) as store:
        with server(proxy_command(scheme, store.port, port), port, folder / "proxy"):
            with store.filesystem.open_output_stream(f"{BUCKET}/a.bin") as stream:
                stream.write(CONTENT)
            yield Reached(store, FaultProxy(port))


@pytest.fixture(scope="module")
def s3_reached(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reached]:
    yield from _reached("s3", tmp_path_factory.mktemp("s3"))


@pytest.fixture(scope="module")
def gs_reached(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reached]:
    yield from _reached("gs", tmp_path_factory.mktemp("gs"))


@pytest.fixture(autouse=True)
def _fresh_clients() -> Iterator[None]:
    """Make clients anew: they read variables and files when they are made."""
    store_clients._client.cache_clear()
    yield
    store_clients._client.cache_clear()


@pytest.fixture
def s3(s3_reached: Reached, monkeypatch: pytest.MonkeyPatch) -> Reached:
    """Give the S3 store; nothing in the environment leads to it, and there are no credentials."""
    for name in AWS:
        monkeypatch.delenv(name, raising=False)
    s3_reached.proxy.set()
    return s3_reached


@pytest.fixture
def gs(gs_reached: Reached) -> Reached:
    gs_reached.proxy.set()
    return gs_reached


def _key(monkeypatch: pytest.MonkeyPatch, name: str = "KEYOFVARIABLE") -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", name)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


# S3


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_s3__variable_names_the_server(name: str, s3: Reached, monkeypatch: pytest.MonkeyPatch) -> None:
    _key(monkeypatch)
    monkeypatch.setenv(name, f"http://{s3.proxy.endpoint}")
    assert s3.content == CONTENT
    assert "KEYOFVARIABLE" in s3.authorization


def test_s3__own_variable_wins_and_an_option_wins_over_both(s3: Reached, monkeypatch: pytest.MonkeyPatch) -> None:
    _key(monkeypatch)
    nobody = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", nobody)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://{s3.proxy.endpoint}")
    assert s3.content == CONTENT
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", nobody)
    options = (("s3.endpoint_override", s3.proxy.endpoint), ("s3.scheme", "http"))
    assert Storage(options).read_bytes(s3.store.uri("a.bin")) == CONTENT


def _files(folder: Path, monkeypatch: pytest.MonkeyPatch, *, config: str = "", credentials: str = "") -> None:
    (folder / "config").write_text(config)
    (folder / "credentials").write_text(credentials)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(folder / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "credentials"))


def test_s3__profile_gives_credentials(s3: Reached, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    credentials = "[biobank]\naws_access_key_id = KEYOFPROFILE\naws_secret_access_key = secret\n"
    _files(tmp_path, monkeypatch, credentials=credentials)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{s3.proxy.endpoint}")
    monkeypatch.setenv("AWS_PROFILE", "biobank")
    assert s3.content == CONTENT
    assert "KEYOFPROFILE" in s3.authorization


def test_s3__profile_names_the_server_and_the_region(
    s3: Reached, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = f"[profile biobank]\nregion = eu-north-1\nendpoint_url = http://{s3.proxy.endpoint}\n"
    _files(tmp_path, monkeypatch, config=config)
    _key(monkeypatch)
    monkeypatch.setenv("AWS_PROFILE", "biobank")
    # The client reads the file of regions once in a process.
    program = "import sys; from beam_jobs.reading.storage import Storage; print(Storage().read_bytes(sys.argv[1]))"
    command = [sys.executable, "-c", program, s3.store.uri("a.bin")]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout == f"{CONTENT!r}\n"
    assert "/eu-north-1/s3/" in s3.authorization


def test_s3_endpoint__services_of_a_profile_win_over_its_own_and_variables_over_both(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(
        "[default]\nendpoint_url = http://default:1\n"
        "[profile own]\nendpoint_url = http://own:2\n"
        "[profile both]\nendpoint_url = http://own:2\nservices = ours\n"
        "[services ours]\ndynamodb =\n  endpoint_url = http://other:3\ns3 =\n  endpoint_url = http://s3:4\n"
    )
    there = {"AWS_CONFIG_FILE": str(config)}
    assert s3_endpoint(there) == "http://default:1"
    assert s3_endpoint({**there, "AWS_PROFILE": "own"}) == "http://own:2"
    assert s3_endpoint({**there, "AWS_PROFILE": "both"}) == "http://s3:4"
    assert s3_endpoint({**there, "AWS_PROFILE": "nobody"}) is None
    assert s3_endpoint({**there, "AWS_ENDPOINT_URL": "http://variable:5"}) == "http://variable:5"
    assert s3_endpoint({**there, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}) is None
    assert s3_endpoint({"AWS_CONFIG_FILE": str(tmp_path / "nothing")}) is None
    config.write_text("endpoint_url\n")
    with pytest.raises(UsageError, match="config cannot be read as an AWS configuration file"):
        s3_endpoint(there)


def test_s3__program_of_a_profile_gives_credentials(
    s3: Reached, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `aws configure export-credentials` does for SSO and assumed roles."""
    program = tmp_path / "program"
    answer = {"Version": 1, "AccessKeyId": "KEYOFPROGRAM", "SecretAccessKey": "secret", "SessionToken": "token"}
    program.write_text(f"#!{sys.executable}\nprint({json.dumps(answer)!r})\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    _files(tmp_path, monkeypatch, config=f"[profile biobank]\ncredential_process = {program}\n")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{s3.proxy.endpoint}")
    monkeypatch.setenv("AWS_PROFILE", "biobank")
    assert s3.content == CONTENT
    assert "KEYOFPROGRAM" in s3.authorization


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY"])
def test_s3__goes_through_the_proxy_of_the_variable(name: str, s3: Reached, monkeypatch: pytest.MonkeyPatch) -> None:
    _key(monkeypatch)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://storage.example.org:9000")  # only the proxy knows it
    monkeypatch.setenv(name, f"http://{s3.proxy.endpoint}")
    assert s3.content == CONTENT
    assert s3.proxy.seen()[-1].target.startswith("http://storage.example.org:9000/")


def test_s3_settings__proxy_is_left_out_where_no_proxy_says_so() -> None:
    proxy = {"HTTPS_PROXY": "proxy.example.org:3128", "AWS_CONFIG_FILE": os.devnull}
    assert s3_settings({}, proxy) == {"proxy_options": "http://proxy.example.org:3128"}
    for listed in ("amazonaws.com", ".amazonaws.com", "x, s3.amazonaws.com", "*"):
        assert s3_settings({}, {**proxy, "NO_PROXY": listed}) == {}
    for listed in ("aws.com", "example.org", ""):
        assert s3_settings({}, {**proxy, "NO_PROXY": listed}) != {}
    own = {"endpoint_override": "minio.example.org:9000"}
    assert s3_settings(own, {**proxy, "no_proxy": "example.org"}) == own
    assert s3_settings({**own, "scheme": "http"}, proxy) == {**own, "scheme": "http"}


def test_s3_settings__proxy_without_a_port_is_refused() -> None:
    with pytest.raises(UsageError, match="HTTPS_PROXY has no port; expected http://HOST:PORT"):
        s3_settings({}, {"HTTPS_PROXY": "http://proxy.example.org", "AWS_CONFIG_FILE": os.devnull})


# GCS


def test_gs__emulator_of_the_variable_needs_no_credentials(gs: Reached, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://{gs.proxy.endpoint}")
    assert gs.content == CONTENT
    assert gs.authorization == ""


def test_gcs_settings__of_the_variable_and_of_options() -> None:
    bare = gcs_settings({}, {"STORAGE_EMULATOR_HOST": "localhost:9023"})
    assert bare == {"anonymous": True, "endpoint_override": "localhost:9023", "scheme": "http"}
    given = {"endpoint_override": "127.0.0.1:1", "anonymous": "false", "region": "unused"}
    expected = {"endpoint_override": "127.0.0.1:1", "anonymous": False}
    assert gcs_settings(given, {"STORAGE_EMULATOR_HOST": "localhost:9023"}) == expected


def test_gs__key_file_of_the_variable_authorises(gs: Reached, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    content = {
        "type": "service_account",
        "project_id": "biobank",
        "private_key_id": "1",
        "private_key": pem.decode(),
        "client_email": "job@biobank.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": "https://oauth2.googleapis.com/token",
    }
    (tmp_path / "key.json").write_text(json.dumps(content))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
    options = (("gs.endpoint_override", gs.proxy.endpoint), ("gs.scheme", "http"))
    assert Storage(options).read_bytes(gs.store.uri("a.bin")) == CONTENT
    assert gs.authorization.startswith("Bearer ey")


def test_gs__goes_through_the_proxy_of_the_variable(gs: Reached, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://storage.example.org:9000")
    monkeypatch.setenv("http_proxy", f"http://{gs.proxy.endpoint}")
    assert gs.content == CONTENT
    assert gs.proxy.seen()[-1].target.startswith("http://storage.example.org:9000/")
