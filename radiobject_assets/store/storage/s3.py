"""Objects on S3: each read one ranged GET, each write one PUT, several under way together.

A request that fails in passing is made again, longer apart each time; while the server asks to slow down,
until the deadline. An object is put whole or not at all by S3 itself. To publish one is a PUT with
`If-None-Match: *`, of which the server lets one succeed; to replace a version is one with `If-Match`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from radiobject_assets.errors import StorageError
from radiobject_assets.store.storage.aws import attempt
from radiobject_assets.store.storage.context import ContextRef
from radiobject_assets.store.storage.deadline import Deadline, GivenUpError, in_time
from radiobject_assets.store.storage.errors import MissingError, disk_errors, late
from radiobject_assets.store.storage.read_meter import METER
from radiobject_assets.store.storage.s3_answers import Answer, S3Failure
from radiobject_assets.store.storage.s3_client import S3Client, s3_client
from radiobject_assets.store.storage.s3_settings import place_on_s3
from radiobject_assets.store.storage.storage import Entry, Storage, checked, folder_prefix

T = TypeVar("T")

_SLOW_DOWN_S = 0.5
_LONGEST_WAIT_S = 5.0
# What a page of a listing, or of removals, adds to the deadline: it is about a MB.
_PAGE_BYTES = 1024 * 1024
_REMOVED_AT_ONCE = 1000
_MOST_PARTS = 10_000
# In memory while parts travel together.
_PARTS_BYTES = 128 * 1024**2
_LARGEST_PUT = 5 * 1024**3
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/")


class S3Storage(Storage):
    """A prefix in a bucket."""

    def __init__(self, uri: str, ctx: ContextRef) -> None:
        self.uri = uri
        self._bucket, _, base = uri.removeprefix("s3://").partition("/")
        self._base = f"{base}/" if base else ""
        self._ctx = ctx
        self._made: tuple[int, S3Client] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_made": None}

    @property
    def _s3(self) -> S3Client:
        made = self._made
        if made is None or made[0] != os.getpid():
            made = self._made = (os.getpid(), s3_client(self._ctx.get()))
        return made[1]

    @property
    def parallel(self) -> int:
        """As many as `S3Config.max_parallel_ops` allows."""
        return self._s3.parallel

    def list(self, prefix: str = "", *, after: str | None = None, recursive: bool = False) -> Sequence[Entry]:
        """See `Storage`."""
        start = folder_prefix(prefix)
        with self._deadline("list", prefix) as deadline:
            found = in_time([partial(self._listed, start, after, recursive, deadline)], deadline)[0]
        return sorted(found)

    def _listed(self, start: str, after: str | None, recursive: bool, deadline: Deadline) -> Sequence[Entry]:
        more = {} if recursive else {"Delimiter": "/"}
        if after is not None:
            more["StartAfter"] = self._base + after
        found: list[Entry] = []
        for page in self._pages(start, deadline, **more):
            for item in page.get("Contents", ()):
                if not item["Key"].endswith("/"):  # else a mark that some programs make for a folder
                    path = item["Key"].removeprefix(self._base)
                    found.append(Entry(path, int(item["Size"]), str(item.get("ETag", ""))))
            for item in page.get("CommonPrefixes", ()):
                found.append(Entry(item["Prefix"].removeprefix(self._base), 0))
        return [entry for entry in found if after is None or entry.path > after]

    def _pages(self, start: str, deadline: Deadline, **more: Any) -> Iterator[Mapping[str, Any]]:
        wanted = {"Bucket": self._bucket, "Prefix": self._base + start, **self._s3.reading, **more}
        while True:
            page = self._tried("list", start, deadline, partial(self._s3.client.list_objects_v2, **wanted))
            deadline.extend(_PAGE_BYTES)
            yield page
            if not page.get("IsTruncated"):
                return
            wanted["ContinuationToken"] = page["NextContinuationToken"]

    def read(self, path: str) -> bytes:
        """See `Storage`."""
        return self.read_many([path])[0]

    def read_many(self, paths: Iterable[str]) -> Sequence[bytes]:
        """See `Storage`."""
        paths = [checked(path) for path in paths]
        with self._deadline("read", paths[0] if len(paths) == 1 else "") as deadline:
            calls = [partial(self._got, path, None, deadline) for path in paths]
            return in_time(calls, deadline, self.parallel)

    def ranges(self, path: str, spans: Sequence[tuple[int, int]]) -> Sequence[bytes]:
        """See `Storage`."""
        checked(path)
        with self._deadline("read", path, sum(nbytes for _, nbytes in spans)) as deadline:
            calls = [partial(self._got, path, span, deadline) for span in spans]
            return in_time(calls, deadline, self.parallel)

    def read_version(self, path: str) -> tuple[bytes, str]:
        """See `Storage`."""
        checked(path)
        with self._deadline("read", path) as deadline:
            return in_time([partial(self._got_version, path, None, deadline)], deadline)[0]

    def _got(self, path: str, span: tuple[int, int] | None, deadline: Deadline) -> bytes:
        if span is not None and span[1] <= 0:
            return b""
        return self._got_version(path, span, deadline)[0]

    def _got_version(self, path: str, span: tuple[int, int] | None, deadline: Deadline) -> tuple[bytes, str]:
        where = {} if span is None else {"Range": f"bytes={span[0]}-{span[0] + span[1] - 1}"}
        moved = 0

        def get() -> tuple[bytes, str]:
            nonlocal moved
            METER.add(requests=1)
            answer = self._s3.client.get_object(
                Bucket=self._bucket, Key=self._base + path, **where, **self._s3.reading
            )
            if span is None and answer["ContentLength"] > moved:
                deadline.extend(answer["ContentLength"] - moved)
                moved = answer["ContentLength"]
            with answer["Body"] as body:
                content = bytes(body.read())
            if span is not None:
                content = _cut(content, answer.get("ContentRange"), *span)
            return content, str(answer.get("ETag", ""))

        def timed() -> tuple[bytes, str]:
            with METER.waiting():
                return get()

        return self._tried("read", path, deadline, timed)

    def write(self, path: str, data: bytes) -> None:
        """See `Storage`."""
        self._check_size("write", path, data)
        with self._deadline("write", path, len(data)) as deadline:
            in_time([partial(self._tried, "write", path, deadline, partial(self._put, path, data))], deadline)

    def write_file(self, path: str, source: Path) -> None:
        """See `Storage`: in parts, if it is larger than one."""
        with disk_errors("read", str(source)):
            size = source.stat().st_size
            if size <= self._s3.part_bytes:
                self.write(path, source.read_bytes())
                return
        where = {"Bucket": self._bucket, "Key": self._base + checked(path)}
        with self._deadline("write", path, size) as deadline:
            tried = partial(self._tried, "write", path, deadline)
            begin = partial(self._s3.client.create_multipart_upload, **where, **self._s3.writing)
            (begun,) = in_time([partial(tried, begin)], deadline)
            where["UploadId"] = begun["UploadId"]
            try:
                self._put_parts(where, source, size, tried, deadline)
            except BaseException:
                # Nobody sees the parts, but they are paid for.
                call = partial(self._s3.client.abort_multipart_upload, **where, **self._s3.reading)
                with suppress(GivenUpError):
                    in_time([partial(attempt, call)], Deadline(self._s3.deadline_s))
                raise

    def write_files(self, sources: Mapping[str, Path]) -> None:
        """See `Storage`."""
        with disk_errors("read", "files to be put on S3"):
            nbytes = sum(source.stat().st_size for source in sources.values())

        def written(path: str, source: Path) -> StorageError | None:
            try:
                self.write_file(path, source)
            except StorageError as error:
                return error
            return None

        # Each ends in time by itself; and all are waited for, so that nothing arrives after an error.
        calls = [partial(written, path, source) for path, source in sources.items()]
        rounds = -(-len(calls) // self.parallel)
        deadline = Deadline(rounds * self._s3.deadline_s + 5.0, nbytes)
        for error in in_time(calls, deadline, self.parallel):
            if error is not None:
                raise error

    def _put_parts(
        self,
        where: Mapping[str, str],
        source: Path,
        size: int,
        tried: Callable[[Callable[[], Any]], Any],
        deadline: Deadline,
    ) -> None:
        client, reading = self._s3.client, self._s3.reading
        part_bytes = max(self._s3.part_bytes, -(-size // _MOST_PARTS))

        def put(number: int) -> dict[str, Any]:
            with disk_errors("read", str(source)), source.open("rb") as file:
                file.seek((number - 1) * part_bytes)
                body = file.read(part_bytes)
            upload = partial(client.upload_part, **where, PartNumber=number, Body=body, **reading)
            return {"PartNumber": number, "ETag": tried(upload)["ETag"]}

        together = max(1, min(self._s3.parallel, _PARTS_BYTES // part_bytes))
        calls = [partial(put, number) for number in range(1, -(-size // part_bytes) + 1)]
        parts = {"Parts": in_time(calls, deadline, together)}
        finish = partial(client.complete_multipart_upload, **where, MultipartUpload=parts, **reading)
        in_time([partial(tried, finish)], deadline)

    def publish(self, path: str, data: bytes) -> bool:
        """See `Storage`."""
        self._check_size("publish", path, data)
        with self._deadline("publish", path, 2 * len(data)) as deadline:
            return in_time([partial(self._published, path, data, deadline)], deadline)[0]

    def replace(self, path: str, data: bytes, version: str) -> bool:
        """See `Storage`."""
        self._check_size("replace", path, data)
        with self._deadline("replace", path, 2 * len(data)) as deadline:
            return in_time([partial(self._replaced, path, data, version, deadline)], deadline)[0]

    def _replaced(self, path: str, data: bytes, version: str, deadline: Deadline) -> bool:
        self._prove_versions(path, data, deadline)
        return self._put_if("replace", path, data, deadline, {"IfMatch": version})

    def _published(self, path: str, data: bytes, deadline: Deadline) -> bool:
        return self._put_if("publish", path, data, deadline, {"IfNoneMatch": "*"})

    def _put_if(
        self, verb: str, path: str, data: bytes, deadline: Deadline, condition: Mapping[str, str]
    ) -> bool:
        put = partial(self._put, path, data, **condition)
        unsure = False
        failures = 0
        while True:
            deadline.check()
            answer = attempt(put)
            if isinstance(answer, Answer):
                if verb == "publish":
                    self._prove_conditions(put, path, deadline)
                return True
            if answer.missing and verb == "replace":
                return False
            if answer.status == 412:
                # Ours, if an earlier try came through whose answer was lost.
                return unsure and self._lies_there(path, data, deadline)
            unsure = unsure or answer.unknown
            if unsure and answer.unknown and self._lies_there(path, data, deadline):
                return True
            failures += not answer.slow_down
            if not answer.passing or failures > self._s3.tries:
                if unsure:  # one of the tries may still come to lie there
                    raise GivenUpError
                self._fail(verb, path, answer)
            self._wait(deadline, answer, failures)

    def _lies_there(self, path: str, data: bytes, deadline: Deadline) -> bool:
        try:
            return self._got(path, None, deadline) == data
        except MissingError:
            return False

    def _prove_conditions(self, put: Callable[[], Any], path: str, deadline: Deadline) -> None:
        """Once for each bucket: a server that ignores conditions would let one commit replace another."""
        if self._bucket in self._s3.conditional:
            return
        answer = attempt(put)
        while isinstance(answer, S3Failure) and answer.passing and answer.status != 412:
            self._wait(deadline, answer, 1)
            answer = attempt(put)
        if isinstance(answer, Answer):
            raise StorageError(
                f"cannot publish {self._place(path)}: this server ignores `If-None-Match`, so two writers "
                "could replace each other's commits; use one that honours conditional writes"
            )
        if answer.status == 412:
            self._s3.conditional.add(self._bucket)

    def _prove_versions(self, path: str, data: bytes, deadline: Deadline) -> None:
        """As `_prove_conditions`, of `If-Match`: by a version that nothing has."""
        if self._bucket in self._s3.versioned:
            return
        answer = attempt(partial(self._put, path, data, IfMatch=f'"{"0" * 32}"'))
        if isinstance(answer, Answer):
            raise StorageError(
                f"cannot replace {self._place(path)}: this server ignores `If-Match`, so two processes could "
                "undo what the other wrote; use one that honours conditional writes"
            )
        if answer.status == 412:
            self._s3.versioned.add(self._bucket)

    def _put(self, path: str, data: bytes, **more: str) -> None:
        self._s3.client.put_object(
            Bucket=self._bucket, Key=self._base + path, Body=data, **more, **self._s3.writing
        )

    def _check_size(self, verb: str, path: str, data: bytes) -> None:
        checked(path)
        if len(data) > _LARGEST_PUT:
            raise StorageError(f"cannot {verb} {self._place(path)}: an object on S3 has 5 GB at most here")

    def remove(self, path: str) -> None:
        """See `Storage`."""
        call = partial(
            self._s3.client.delete_object,
            Bucket=self._bucket,
            Key=self._base + checked(path),
            **self._s3.reading,
        )
        with self._deadline("remove", path) as deadline:
            try:
                in_time([partial(self._tried, "remove", path, deadline, call)], deadline)
            except MissingError:
                return

    def remove_tree(self, path: str) -> None:
        """See `Storage`."""
        start = folder_prefix(path)
        if not self._base + start:
            raise StorageError(f"cannot remove {self.uri}: it is a whole bucket; give a prefix in it")
        with self._deadline("remove", path) as deadline:
            in_time([partial(self._removed, start, deadline)], deadline)

    def _removed(self, start: str, deadline: Deadline) -> None:
        while found := self._listed(start, None, True, deadline):
            for first in range(0, len(found), _REMOVED_AT_ONCE):
                keys = [{"Key": self._base + e.path} for e in found[first : first + _REMOVED_AT_ONCE]]
                call = partial(
                    self._s3.client.delete_objects,
                    Bucket=self._bucket,
                    Delete={"Objects": keys, "Quiet": True},
                    **self._s3.reading,
                )
                refused = self._tried("remove", start, deadline, call).get("Errors", ())
                deadline.extend(_PAGE_BYTES)
                if any(error.get("Code") == "AccessDenied" for error in refused):
                    self._fail("remove", start, S3Failure(403, "AccessDenied", "S3 answered 403", False))
                deadline.sleep(_SLOW_DOWN_S if refused else 0)

    def prune(self) -> None:
        """See `Storage`: nothing to do."""

    def exists(self, path: str) -> bool:
        """See `Storage`."""
        call = partial(
            self._s3.client.head_object,
            Bucket=self._bucket,
            Key=self._base + checked(path),
            **self._s3.reading,
        )
        with self._deadline("look at", path) as deadline:
            try:
                in_time([partial(self._tried, "look at", path, deadline, call)], deadline)
            except MissingError:
                return False
        return True

    @contextmanager
    def lock(self, path: str, *, wait_s: float) -> Iterator[None]:
        """See `Storage`: on S3 nothing is exclusive."""
        checked(path)
        yield

    def leftovers(self, older_than_s: float) -> Sequence[Entry]:
        """See `Storage`: none."""
        return []

    def _tried(self, verb: str, path: str, deadline: Deadline, request: Callable[[], T]) -> T:
        """The answer to a request that may be made several times."""
        failures = 0
        while True:
            deadline.check()
            answer = attempt(request)
            if isinstance(answer, Answer):
                return answer.value
            if answer.status == 416:  # the object ends before the range
                return b"", ""  # type: ignore[return-value]  # only reads have a range
            failures += not answer.slow_down
            if not answer.passing or failures > self._s3.tries:
                self._fail(verb, path, answer)
            METER.add(repeated=1, slow_downs=int(answer.slow_down))
            self._wait(deadline, answer, failures)

    def _wait(self, deadline: Deadline, failure: S3Failure, failures: int) -> None:
        wait = self._s3.wait_s * 2.0**failures
        deadline.sleep(min(_LONGEST_WAIT_S, max(wait, _SLOW_DOWN_S if failure.slow_down else 0.0)))

    def _fail(self, verb: str, path: str, failure: S3Failure) -> NoReturn:
        kind = MissingError if failure.missing else StorageError
        words = "there is no such object" if failure.missing else failure.words
        raise kind(f"cannot {verb} {self._place(path)}: {words}") from OSError(failure.words)

    @contextmanager
    def _deadline(self, verb: str, path: str, nbytes: int = 0) -> Iterator[Deadline]:
        deadline = Deadline(self._s3.deadline_s, nbytes)
        try:
            yield deadline
        except GivenUpError:
            error = late(verb, self._place(path), deadline.seconds)
        else:
            return
        raise error

    def _place(self, path: str) -> str:
        return place_on_s3(f"{self.uri}/{path}".rstrip("/"), self._s3.endpoint)


def _cut(content: bytes, content_range: str | None, offset: int, nbytes: int) -> bytes:
    """The bytes that were asked for, from an answer whose server may not have understood the range."""
    found = _CONTENT_RANGE.match(content_range or "")
    first = int(found[1]) if found else 0
    if first > offset:
        raise OSError("the server gave another range than the one that was asked for")
    return content[offset - first : offset - first + nbytes]
