"""One pinned archive from the package index that pip is configured for, downloaded without running anything
of its authors'.

`pip download` builds a source distribution's metadata, that is, it runs its setup.py. So the file is looked
up in the index (the simple API, PEP 503 and PEP 691) and downloaded here; where to look comes from pip's own
configuration and environment: index-url, extra-index-url, find-links, no-index, proxy, cert, trusted-host,
timeout. The sha256 is fixed by the caller.
"""

from __future__ import annotations

import ast
import base64
import hashlib
import json
import os
import re
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from html.parser import HTMLParser
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import URLError
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit
from urllib.request import HTTPSHandler, ProxyHandler, Request, build_opener, url2pathname

from evaluator.errors import TestbedError

DEFAULT_INDEX = "https://pypi.org/simple"
_OPTIONS = (
    "index-url",
    "extra-index-url",
    "find-links",
    "no-index",
    "proxy",
    "cert",
    "trusted-host",
    "timeout",
    "default-timeout",
)
_ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
_BLOCK = 1 << 20

Progress = Callable[[int, int], object]  # bytes done, bytes in all (0 if unknown)


@dataclass(frozen=True)
class Archive:
    """A file of a project on a package index."""

    project: str
    filename: str
    sha256: str


@dataclass(frozen=True)
class Locations:
    """Where pip looks, and how it gets there.

    `pages`: index and find-links locations in the order in which they are tried.
    """

    indexes: tuple[str, ...]
    find_links: tuple[str, ...]
    proxy: str | None
    cert: str | None
    trusted_hosts: tuple[str, ...]
    timeout: float


def fetch(archive: Archive, folder: Path | str, progress: Progress | None = None) -> Path:
    """The archive's path in `folder`; it is downloaded unless it lies there already.

    Raises TestbedError, in one line, if no location has it or can be reached, or if the file's sha256 is not
    the archive's.
    """
    folder = Path(folder)
    path = folder / archive.filename
    if path.exists():
        _check(path, archive, str(path))
        return path
    folder.mkdir(parents=True, exist_ok=True)
    locations = pip_locations()
    failures = []
    for page in (
        *locations.find_links,
        *(f"{index.rstrip('/')}/{_normalised(archive.project)}/" for index in locations.indexes),
    ):
        try:
            url = _link(page, archive.filename, locations)
            if url is None:
                failures.append(f"{_shown(page)}: not there")
                continue
            _download(url, path, archive, locations, progress)
            return path
        except (
            OSError,
            HTTPException,
            ValueError,
        ) as error:  # unreachable (URLError is an OSError), broken off, not a URL or not JSON
            failures.append(f"{_shown(page)}: {_reason(error)}")
    tried = "; ".join(failures) or "pip's configuration names no index"
    raise TestbedError(
        f"cannot download {archive.filename} ({tried}). Check the network and pip's index, or put the file"
        f" into {folder} yourself."
    )


def pip_locations() -> Locations:
    """What `pip config list` says; without pip, its environment variables alone."""
    values = _pip_options()
    indexes = [values.get("index-url", DEFAULT_INDEX), *values.get("extra-index-url", "").split()]
    timeout = values.get("timeout", values.get("default-timeout", "60"))
    return Locations(
        indexes=() if values.get("no-index", "").lower() in ("1", "true", "yes", "on") else tuple(indexes),
        find_links=tuple(values.get("find-links", "").split()),
        proxy=values.get("proxy") or None,
        cert=values.get("cert") or None,
        trusted_hosts=tuple(values.get("trusted-host", "").split()),
        timeout=float(timeout) if re.fullmatch(r"\d+(\.\d+)?", timeout) else 60.0,
    )


def _pip_options() -> dict[str, str]:
    run = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    found: dict[tuple[int, str], str] = {}
    for line in run.stdout.splitlines() if run.returncode == 0 else ():
        match = re.fullmatch(r"(global|download|:env:)\.([a-z-]+)=(.*)", line)
        if match and match[2] in _OPTIONS:
            rank = ("global", "download", ":env:").index(match[1])
            found[rank, match[2]] = str(ast.literal_eval(match[3]))
    for option in _OPTIONS:
        value = os.environ.get(f"PIP_{option.upper().replace('-', '_')}")
        if value:
            found[2, option] = value
    return {option: found[rank, option] for rank, option in sorted(found)}


class _Links(HTMLParser):
    """The targets of a page's links."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.targets += [value for name, value in attrs if tag == "a" and name == "href" and value]


def _link(page: str, filename: str, locations: Locations) -> str | None:
    """The address of the file on an index's or find-links page, in a folder, or None."""
    local = _local(page)
    if local is not None:
        if (local / filename).is_file():
            return (local / filename).as_uri()
        local = local / "index.html" if local.is_dir() else local
        if not local.is_file():
            return None
        page, kind, text = local.as_uri(), "text/html", local.read_text(encoding="utf-8")
    else:
        with _open(page, locations, _ACCEPT) as answer:
            page, kind, text = (
                _with_credentials(answer.url, page),
                answer.headers.get_content_type(),
                answer.read().decode("utf-8", "replace"),
            )
    if kind.endswith("json"):
        targets = [
            file["url"] for file in json.loads(text).get("files", ()) if file.get("filename") == filename
        ]
    else:
        parser = _Links()
        parser.feed(text)
        targets = [
            target
            for target in parser.targets
            if unquote(urlsplit(target).path).rsplit("/", 1)[-1] == filename
        ]
    return _with_credentials(urljoin(page, targets[0]), page) if targets else None


def _download(
    url: str, path: Path, archive: Archive, locations: Locations, progress: Progress | None
) -> None:
    """Write the file under another name, and give it its own once its sha256 is right."""
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as part:
        try:
            with _open(url, locations) as answer:
                total, done = int(answer.headers.get("Content-Length") or 0), 0
                while block := answer.read(_BLOCK):
                    part.write(block)
                    done += len(block)
                    if progress:
                        progress(done, total)
            part.flush()
            _check(Path(part.name), archive, _shown(url))
            os.replace(part.name, path)
        except BaseException:
            os.unlink(part.name)
            raise


def _check(path: Path, archive: Archive, source: str) -> None:
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != archive.sha256:
        remedy = (
            "delete it and try again" if source == str(path) else "check which index pip is configured for"
        )
        raise TestbedError(f"{source} has sha256 {found}, not {archive.sha256}, and is refused; {remedy}.")


def _open(url: str, locations: Locations, accept: str = "*/*") -> HTTPResponse:
    parts = urlsplit(url)
    headers = {"Accept": accept, "User-Agent": "evo-aar"}
    if parts.username:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    context = ssl.create_default_context(
        cafile=locations.cert if locations.cert and os.path.isfile(locations.cert) else None
    )
    if (
        parts.hostname in locations.trusted_hosts
        or f"{parts.hostname}:{parts.port}" in locations.trusted_hosts
    ):
        context.check_hostname, context.verify_mode = (
            False,
            ssl.CERT_NONE,
        )  # as pip does; the sha256 is checked all the same
    proxies = ProxyHandler({"http": locations.proxy, "https": locations.proxy} if locations.proxy else None)
    opener = build_opener(proxies, HTTPSHandler(context=context))
    return opener.open(Request(_without_credentials(url), headers=headers), timeout=locations.timeout)


def _local(page: str) -> Path | None:
    parts = urlsplit(page)
    if parts.scheme == "file":
        return Path(url2pathname(parts.path))
    return None if parts.scheme in ("http", "https") else Path(page).expanduser()


def _without_credentials(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment=""))


def _with_credentials(url: str, source: str) -> str:
    """`url` with the credentials of `source`, if both are on one host."""
    there, here = urlsplit(url), urlsplit(source)
    if (
        here.username
        and not there.username
        and (there.scheme, there.hostname, there.port) == (here.scheme, here.hostname, here.port)
    ):
        return urlunsplit(there._replace(netloc=here.netloc))
    return url


_shown = _without_credentials


def _normalised(project: str) -> str:
    return re.sub(r"[-_.]+", "-", project).lower()


def _reason(error: Exception) -> str:
    reason = error.reason if isinstance(error, URLError) else error
    return " ".join(str(reason).split()) or type(error).__name__
