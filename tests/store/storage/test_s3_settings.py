"""Every setting of a context for S3 has its effect or is refused, and no secret is ever told."""

from __future__ import annotations

import base64
import pickle
import shutil
import subprocess
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from radiobject_assets.errors import ConfigurationError, RadiObjectError, StorageError
from radiobject_assets.store import RadiObjectConfig, S3Config, make_ctx
from radiobject_assets.store.storage import Storage, open_storage
from tests.store.storage.recorder import Asked, Recorder, Reply

pytestmark = [pytest.mark.s3, pytest.mark.timeout(120)]

KEY = "AKIACANARY0KEY0ID000"
SECRET = "canary/secret+key/0000000000000000000000"
TOKEN = "canary-session-token-0000"
PASSWORD = "canary-proxy-password"
CANARIES = (KEY, SECRET, TOKEN, PASSWORD)
LISTING = b'<?xml version="1.0"?><ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>'


def listing(_: Asked) -> Reply:
    return Reply(body=LISTING, headers={"Content-Type": "application/xml"})


def reach(endpoint: str, s3: dict[str, Any] | None = None, **settings: str) -> Storage:
    """A storage at an endpoint, with further settings of TileDB's for S3."""
    config = S3Config(
        endpoint=endpoint, use_virtual_addressing=False, max_tries=1, deadline_s=5.0, **(s3 or {})
    )
    keys = {"aws_access_key_id": KEY, "aws_secret_access_key": SECRET, "aws_session_token": TOKEN}
    given = {f"vfs.s3.{name}": value for name, value in {**keys, **settings}.items()}
    return open_storage("s3://bucket/store", make_ctx(RadiObjectConfig(s3=config), **given))


@pytest.mark.parametrize(
    ("settings", "header", "value", "methods"),
    [
        ({"sse": "aes256"}, "x-amz-server-side-encryption", "AES256", {"PUT"}),
        ({"sse": "kms", "sse_kms_key_id": "k"}, "x-amz-server-side-encryption", "aws:kms", {"PUT"}),
        ({"sse": "kms", "sse_kms_key_id": "k"}, "x-amz-server-side-encryption-aws-kms-key-id", "k", {"PUT"}),
        ({"storage_class": "STANDARD_IA"}, "x-amz-storage-class", "STANDARD_IA", {"PUT"}),
        ({"object_canned_acl": "public_read_write"}, "x-amz-acl", "public-read-write", {"PUT"}),
        ({"object_canned_acl": "private_"}, "x-amz-acl", "private", {"PUT"}),
        (
            {"requester_pays": "true"}, "x-amz-request-payer", "requester",
            {"PUT", "GET", "LIST", "HEAD", "DELETE"},
        ),
        ({}, "x-amz-security-token", TOKEN, {"PUT", "GET", "LIST", "HEAD", "DELETE"}),
    ],
)  # fmt: skip
def test_what_a_context_wants_of_requests_is_in_them(
    settings: dict[str, str], header: str, value: str, methods: set[str]
) -> None:
    with Recorder(listing) as server:
        storage = reach(server.endpoint, **settings)
        storage.write("f", b"data")
        storage.read("f")
        storage.list()
        storage.exists("f")
        storage.remove("f")
        found = {
            "LIST" if "list-type" in asked.target else asked.method: asked.headers.get(header)
            for asked in server.asked
        }
    assert set(found) == {"PUT", "GET", "LIST", "HEAD", "DELETE"}
    assert {method: value for method, seen in found.items() if seen} == dict.fromkeys(methods, value)


def test_requests_go_through_the_proxy_of_a_context() -> None:
    with Recorder(listing) as proxy:
        host, _, port = proxy.host.partition(":")
        storage = reach(
            "http://storage.invalid:9000", proxy_host=host, proxy_port=port, proxy_username="user",
            proxy_password=PASSWORD,
        )  # fmt: skip
        assert storage.list() == []
    (asked,) = proxy.asked
    assert asked.target.startswith("http://storage.invalid:9000/bucket?")
    given = asked.headers["proxy-authorization"].removeprefix("Basic ")
    assert base64.b64decode(given).decode() == f"user:{PASSWORD}"


@pytest.mark.parametrize("virtual", [True, False])
def test_the_bucket_is_in_the_host_name_or_in_the_path(virtual: bool) -> None:
    with Recorder(listing) as proxy:
        host, _, port = proxy.host.partition(":")
        style = str(virtual).lower()
        reach(
            "http://storage.invalid:9000", proxy_host=host, proxy_port=port, use_virtual_addressing=style
        ).list()
    (asked,) = proxy.asked
    place = "bucket.storage.invalid:9000/?" if virtual else "storage.invalid:9000/bucket?"
    assert asked.target.startswith(f"http://{place}")


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for this machine that nobody trusts, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    made, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-out", str(made), "-keyout", str(key)],
        check=True, capture_output=True,
    )  # fmt: skip
    return made, key


def test_certificates_are_verified_against_the_file_of_a_context(certificate: tuple[Path, Path]) -> None:
    with Recorder(listing, certificate) as server:
        with pytest.raises(StorageError, match=r"certificate is not trusted: .* vfs\.s3\.ca_file"):
            reach(server.endpoint).list()
        assert reach(server.endpoint, ca_file=str(certificate[0])).list() == []
        assert reach(server.endpoint, verify_ssl="false").list() == []


def test_a_role_is_assumed_with_the_credentials_of_a_context(monkeypatch: pytest.MonkeyPatch) -> None:
    role = b"""<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>
    <AssumedRoleUser><Arn>arn:aws:sts::123456789012:assumed-role/reader/s</Arn><AssumedRoleId>a:s</AssumedRoleId>
    </AssumedRoleUser><Credentials><AccessKeyId>ROLEKEY</AccessKeyId><SecretAccessKey>s</SecretAccessKey>
    <SessionToken>role-token</SessionToken><Expiration>2100-01-01T00:00:00Z</Expiration></Credentials>
    </AssumeRoleResult></AssumeRoleResponse>"""
    with Recorder(lambda _: Reply(body=role)) as sts, Recorder(listing) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts.endpoint)
        storage = reach(
            server.endpoint, aws_role_arn="arn:aws:iam::123456789012:role/reader", aws_external_id="outside",
            aws_session_name="session",
        )  # fmt: skip
        storage.list()
        storage.list()
    (asked,) = sts.asked
    assert f"Credential={KEY}/" in asked.headers["authorization"]
    for part in (b"Action=AssumeRole", b"role%2Freader", b"ExternalId=outside", b"RoleSessionName=session"):
        assert part in asked.body
    for asked in server.asked:
        assert "Credential=ROLEKEY/" in asked.headers["authorization"]
        assert asked.headers["x-amz-security-token"] == "role-token"


def test_without_credentials_requests_are_anonymous() -> None:
    with Recorder(listing) as server:
        reach(server.endpoint, {"include_credentials": False}).list()
    assert "authorization" not in server.asked[0].headers


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"ca_path": "/certs"}, "ca_file"), ({"proxy_host": "p", "proxy_scheme": "ftp"}, "'http' or 'https'")],
)  # fmt: skip
def test_what_is_not_possible_is_refused_with_what_to_do(settings: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        reach("http://127.0.0.1:1", **settings).list()


def test_a_range_that_a_server_ignores_is_cut_from_the_whole() -> None:
    data = bytes(range(200))
    with Recorder(lambda _: Reply(body=data)) as server:
        assert reach(server.endpoint).ranges("f", [(10, 5), (190, 50)]) == [data[10:15], data[190:]]


def test_another_range_than_the_one_asked_for_is_an_error() -> None:
    wrong = Reply(206, bytes(5), {"Content-Range": "bytes 100-104/200"})
    with Recorder(lambda _: wrong) as server, pytest.raises(StorageError):
        reach(server.endpoint).range("f", 10, 5)


def test_a_server_that_ignores_conditions_is_no_place_for_commits() -> None:
    with Recorder() as server, pytest.raises(StorageError, match="ignores `If-None-Match`"):
        reach(server.endpoint).publish("f", b"")


def _error(status: int, code: str) -> Callable[[Asked], Reply]:
    def reply(asked: Asked) -> Reply:
        told = " ".join([*asked.headers.values(), SECRET, TOKEN])
        body = f"<Error><Code>{code}</Code><Message>{told}</Message><Key>{KEY}</Key></Error>"
        return Reply(status, body.encode(), {"Content-Type": "application/xml"})

    return reply


CALLS: dict[str, Callable[[Storage], Any]] = {
    "list": lambda storage: storage.list(),
    "read": lambda storage: storage.read("f"),
    "ranges": lambda storage: storage.ranges("f", [(0, 1)]),
    "write": lambda storage: storage.write("f", b""),
    "publish": lambda storage: storage.publish("f", b""),
    "remove": lambda storage: storage.remove("f"),
    "remove tree": lambda storage: storage.remove_tree("f"),
    "exists": lambda storage: storage.exists("f"),
}


def everything_told(error: BaseException) -> str:
    """All that a log, a debugger or another process may see of an error."""
    seen: list[str] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is not None:
            seen += [str(one), repr(one), repr(one.args), repr(vars(one))]
            waiting += [one.__cause__, one.__context__]
    return "\n".join([*seen, *traceback.format_exception(error), repr(pickle.dumps(error))])


@pytest.mark.sampled(4)
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (403, "InvalidAccessKeyId", "does not know the access key"),
        (403, "SignatureDoesNotMatch", "does not fit"),
        (403, "RequestTimeTooSkewed", "clock"),
        (400, "ExpiredToken", "expired"),
        (403, "AccessDenied", "no right"),
        (404, "NoSuchBucket", "no such bucket"),
        (400, KEY, "S3 answered 400"),
        (500, "InternalError", "S3 answered 500"),
    ],
)
def test_what_a_server_sends_back_is_not_repeated(call: str, status: int, code: str, words: str) -> None:
    with Recorder(_error(status, code)) as server:
        storage = reach(server.endpoint)
        try:
            assert (call, CALLS[call](storage)) == ("exists", False)
            assert status == 404
        except StorageError as error:
            told = everything_told(error)
    if not (call == "exists" and status == 404):
        if call != "exists":  # whose answer has no body to tell more
            assert words in told
        assert server.endpoint in told
        for canary in CANARIES:
            assert canary not in told


@pytest.mark.parametrize("call", CALLS)
def test_a_proxy_that_does_not_answer_is_told_without_its_password(call: str) -> None:
    storage = reach(
        "http://storage.invalid", proxy_host="127.0.0.1", proxy_port="1", proxy_username="user",
        proxy_password=PASSWORD,
    )  # fmt: skip
    with pytest.raises(StorageError) as failed:
        CALLS[call](storage)
    told = everything_told(failed.value)
    assert "proxy does not answer" in told
    for canary in (*CANARIES, "user:"):
        assert canary not in told


@pytest.mark.parametrize(
    "uri",
    [
        f"s3://{KEY}:{SECRET.replace('/', '')}@bucket/store",
        f"s3://bucket/store?X-Amz-Credential={KEY}&X-Amz-Signature={TOKEN}",
        f"https://{KEY}:{PASSWORD}@bucket.example/store",
    ],
)
def test_a_uri_with_secrets_is_refused_without_repeating_them(uri: str) -> None:
    with pytest.raises(RadiObjectError) as failed:
        open_storage(uri)
    told = everything_told(failed.value)
    for canary in (*CANARIES, SECRET.replace("/", "")):
        assert canary not in told


def test_nothing_of_a_storage_shows_its_secrets() -> None:
    with Recorder(listing) as server:
        storage = reach(server.endpoint, proxy_password=PASSWORD)
        storage.list()
        for text in (repr(storage), repr(vars(storage)), repr(pickle.dumps(storage))):
            for canary in CANARIES:
                assert canary not in text
