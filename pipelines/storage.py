"""Where a lake lies: a local folder or s3://bucket/prefix, behind the same few calls.

Credentials, region and endpoint come from the usual variables (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL ...);
an endpoint without TLS needs AWS_ALLOW_HTTP=true. Programs that need a real file get a copy in a local cache (ROTOSCOPE_CACHE, default
~/.cache/rotoscope), fetched again when the object changes.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from pipelines.errors import UserError

if TYPE_CHECKING:
    import pyarrow.fs as pafs

_ATTEMPTS = 5
_CONNECT_S, _REQUEST_S = 5, 20  # an object store that stalls longer than this has failed; the request is repeated


@dataclass(frozen=True)
class Storage:
    """One root: an absolute local path, or s3://bucket/prefix. Paths of its calls are relative to it, with slashes."""

    address: str

    @classmethod
    def of(cls, root: Path | str) -> Storage:
        """The storage that a root names. Raises UserError for other schemes than s3."""
        text = str(root)
        if "://" not in text:
            return cls(str(Path(text).expanduser().absolute()))
        parsed = urlparse(text)
        if parsed.scheme != "s3" or not parsed.netloc:
            raise UserError(f"ROTOSCOPE_HOME={text}: the lake's root is a local folder or s3://bucket/prefix")
        return cls(f"s3://{parsed.netloc}{parsed.path.rstrip('/')}")

    @property
    def remote(self) -> bool:
        """Whether the files are objects in a bucket."""
        return self.address.startswith("s3://")

    @cached_property
    def filesystem(self) -> pafs.FileSystem:
        """pyarrow's view of it; its paths are those of `inside`."""
        import pyarrow.fs as pafs

        if not self.remote:
            return pafs.LocalFileSystem()
        endpoint = urlparse(os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "")
        named: dict[str, Any] = {"endpoint_override": endpoint.netloc, "scheme": endpoint.scheme} if endpoint.netloc else {}
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        if region or endpoint.netloc:
            named["region"] = region or "us-east-1"
        if endpoint.scheme == "http" and os.environ.get("AWS_ALLOW_HTTP", "").lower() not in ("1", "true", "yes"):
            raise UserError(f"AWS_ENDPOINT_URL={endpoint.geturl()} sends keys and data in the clear; set AWS_ALLOW_HTTP=true to allow that")
        retries = pafs.AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS)
        return pafs.S3FileSystem(**named, retry_strategy=retries, connect_timeout=_CONNECT_S, request_timeout=_REQUEST_S)

    @property
    def delta_options(self) -> dict[str, str]:
        """Options of the deltalake package. A commit is a put that succeeds only where no such object is yet, so writers never overwrite a commit."""
        if not self.remote:
            return {}
        return {
            "aws_conditional_put": "etag",
            "timeout": f"{_REQUEST_S}s",
            "connect_timeout": f"{_CONNECT_S}s",
            "max_retries": str(_ATTEMPTS),
        }

    def url(self, relative: str) -> str:
        """Absolute local path or s3 URL."""
        return f"{self.address}/{relative}" if relative else self.address

    def inside(self, path: str) -> str:
        """A path of the file system, from a relative path or from what `url` gave."""
        whole = path if "://" in path or os.path.isabs(path) else self.url(path)
        return whole.removeprefix("s3://")

    def refused(self, error: Exception) -> str:
        """What to tell the user when an object store failed after all retries."""
        first = str(error).split("\n")[0][:300]
        return (
            f"{self.address} did not answer after {_ATTEMPTS} attempts, or refused: {first}; check AWS_ENDPOINT_URL, AWS_REGION, the keys "
            "and the bucket, then run the command again (what was committed stays)"
        )

    # --- calls -------------------------------------------------------------------------------------------------------

    def info(self, path: str) -> Any:
        """pyarrow FileInfo: type, size, mtime."""
        with explained(self):
            return self.filesystem.get_file_info(self.inside(path))

    def exists(self, path: str) -> bool:
        """Whether a file (or an object, or a folder with objects) is there."""
        return bool(self.info(path).type.value)  # NotFound is 0

    def read(self, path: str) -> bytes:
        """All bytes. Raises FileNotFoundError."""
        with explained(self), self.filesystem.open_input_stream(self.inside(path)) as stream:
            data: bytes = stream.read()
        return data

    def write(self, path: str, data: bytes) -> None:
        """The whole file or nothing: an object appears when its upload is complete; a local file is renamed into place."""
        target = self.inside(path)
        with explained(self):
            if self.remote:
                with self.filesystem.open_output_stream(target) as stream:
                    stream.write(data)
                return
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            partial = Path(target).with_name(f".{Path(target).name}.{uuid.uuid4().hex}.part")
            partial.write_bytes(data)
            os.replace(partial, target)

    def files(self, folder: str) -> list[str]:
        """Relative paths of all files under a folder, sorted; none where there is no folder."""
        import pyarrow.fs as pafs

        start = len(self.inside(self.address)) + 1
        with explained(self):
            found = self.filesystem.get_file_info(pafs.FileSelector(self.inside(folder), allow_not_found=True, recursive=True))
        return sorted(info.path[start:] for info in found if info.is_file)

    def remove(self, path: str) -> None:
        """Delete one file; nothing happens where there is none."""
        with explained(self):
            if self.filesystem.get_file_info(self.inside(path)).is_file:
                self.filesystem.delete_file(self.inside(path))

    # --- local copies ------------------------------------------------------------------------------------------------

    @property
    def local_root(self) -> Path:
        """The root itself, or the folder of its local copies, laid out alike."""
        if not self.remote:
            return Path(self.address)
        cache = Path(os.environ.get("ROTOSCOPE_CACHE") or "~/.cache/rotoscope").expanduser().absolute()
        return cache / hashlib.sha256(self.address.encode()).hexdigest()[:16]

    def fetch(self, relative: str) -> Path:
        """Local path of a file or folder; of a remote one, a copy that is as new as the object. Missing ones give the path where it would be."""
        target = self.local_root / relative
        if not self.remote:
            return target
        info = self.info(relative)
        for name in [relative] if info.is_file else self.files(relative):
            self._fetch_file(name, info if info.is_file else self.info(name))
        return target

    def _fetch_file(self, relative: str, info: Any) -> None:
        target, stamp = self.local_root / relative, self._stamp(relative)
        seen = f"{info.size} {info.mtime_ns}"
        if target.is_file() and stamp.is_file() and stamp.read_text() == seen:
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")
        try:
            with explained(self), self.filesystem.open_input_stream(self.inside(relative)) as stream, partial.open("wb") as file:
                shutil.copyfileobj(stream, file, 1 << 20)
            if partial.stat().st_size != info.size:
                raise UserError(f"{self.url(relative)} came back short; run the command again")
            os.replace(partial, target)
        finally:
            partial.unlink(missing_ok=True)
        self._write_stamp(stamp, seen)

    def put(self, path: Path) -> str:
        """Upload a file or folder that was written under `local_root`; returns its relative path. On a local root there is nothing to upload."""
        relative = path.absolute().relative_to(self.local_root).as_posix()
        if not self.remote:
            return relative
        for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
            name = file.absolute().relative_to(self.local_root).as_posix()
            with explained(self), file.open("rb") as source, self.filesystem.open_output_stream(self.inside(name)) as stream:
                shutil.copyfileobj(source, stream, 8 << 20)
            info = self.info(name)
            self._write_stamp(self._stamp(name), f"{info.size} {info.mtime_ns}")
        return relative

    def forget_copy(self, relative: str) -> None:
        """Delete the local copy of a remote file, if any."""
        if self.remote:
            (self.local_root / relative).unlink(missing_ok=True)
            self._stamp(relative).unlink(missing_ok=True)

    def _stamp(self, relative: str) -> Path:
        return self.local_root / ".fetched" / hashlib.sha256(relative.encode()).hexdigest()

    def _write_stamp(self, stamp: Path, text: str) -> None:
        stamp.parent.mkdir(parents=True, exist_ok=True)
        partial = stamp.with_name(f"{stamp.name}.{uuid.uuid4().hex}")
        partial.write_text(text)
        os.replace(partial, stamp)


def local_file(uri: str) -> Path:
    """A path that any program can open: the file itself, or the copy of an s3:// one. Safe to call on every machine of a cluster."""
    if not uri.startswith("s3://"):
        return Path(uri)
    folder, _, name = uri.rpartition("/")
    return Storage.of(folder).fetch(name)


def local_beside(uri: str, name: str) -> Path:
    """The same of a file or folder `name` in the folder of `uri`."""
    folder, slash, _ = uri.rpartition("/")
    return local_file(f"{folder}{slash}{name}")


@contextmanager
def explained(storage: Storage) -> Iterator[None]:
    """Turns what an object store refused, after all retries, into a UserError; a missing file stays a FileNotFoundError."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        if not storage.remote:
            raise
        raise UserError(storage.refused(error)) from error
