"""Downloads against a local server that breaks off, changes its files and counts what it is asked for."""

from __future__ import annotations

import functools
import gzip
import hashlib
import http.server
import multiprocessing
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from naming import naming
from tqdm import tqdm

from s3prl_aalbert.checkpoint.content import CheckpointError
from s3prl_aalbert.checkpoint.release import load_checkpoint
from s3prl_aalbert.checkpoint.training_state import save_training_state
from s3prl_aalbert.model.config import ModelConfig
from s3prl_aalbert.upstream import hubconf
from s3prl_aalbert.upstream.download import fetch
from s3prl_aalbert.upstream.named import upstream_config

CONTENT = bytes(range(256)) * 4096  # 1 MiB
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves ``files``; the first ``breaks`` answers stop after half of what they promised."""

    daemon_threads = True

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {"/model.safetensors": CONTENT}
        self.breaks, self.answers, self.status = 0, 0, 200
        self.headers: dict[str, str] = {}
        """In place of Content-Length, with the status ``status``."""
        super().__init__(("127.0.0.1", 0), Handler)

    def url(self, path: str = "/model.safetensors") -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        server = self.server
        content = server.files.get(self.path)
        if server.headers and self.path == "/odd":
            self.send_response(server.status)
            for name, value in server.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content or b"")
            return
        if content is None or server.status != 200:
            self.send_error(404 if content is None else server.status)
            return
        server.answers += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if server.breaks:
            server.breaks -= 1
            content = content[: len(content) // 2]
        self.wfile.write(content)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=functools.partial(running.serve_forever, poll_interval=0.01))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let torch.hub keep its files in a folder of the test."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    return tmp_path / "torch" / "hub"


def kept(cache: Path) -> list[str]:
    """Return what lies in the cache, locks aside."""
    return sorted(path.name for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock")


def test_a_file_is_fetched_once_and_kept_under_torch_hubs_folder(server: Server, cache: Path) -> None:
    for url in (server.url(), server.url(), f"{server.url()}#sha256={SHA256}"):
        path = fetch(url, progress=False)
        assert path.read_bytes() == CONTENT and path.name == "model.safetensors" and cache in path.parents
    assert server.answers == 1 and kept(cache) == ["model.safetensors"]


def test_two_urls_of_the_same_name_are_two_files(server: Server) -> None:
    server.files["/other/model.safetensors"] = b"other"
    assert fetch(server.url(), progress=False).read_bytes() == CONTENT
    assert fetch(server.url("/other/model.safetensors"), progress=False).read_bytes() == b"other"


def test_refresh_downloads_again(server: Server) -> None:
    fetch(server.url(), progress=False)
    server.files["/model.safetensors"] = b"new"
    assert fetch(server.url(), progress=False).read_bytes() == CONTENT
    assert fetch(server.url(), refresh=True, progress=False).read_bytes() == b"new"


@pytest.mark.parametrize("given", ["argument", "fragment", "upper case"])
def test_another_file_than_the_hash_promises_is_refused_and_not_kept(server: Server, cache: Path, given: str) -> None:
    wrong = "ab" * 32
    url, sha256 = server.url(), wrong.upper() if given == "upper case" else wrong
    if given == "fragment":
        url, sha256 = f"{url}#sha256={wrong}", None
    with pytest.raises(CheckpointError) as error:
        fetch(url, sha256, progress=False)
    assert SHA256 in str(error.value) and wrong in str(error.value) and server.url() in str(error.value)
    assert kept(cache) == []


def test_an_altered_copy_is_replaced(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    path = fetch(server.url(), SHA256, progress=False)
    path.write_bytes(b"altered")
    assert fetch(server.url(), SHA256, progress=False).read_bytes() == CONTENT
    assert "hash differs" in caplog.text and server.answers == 2


@pytest.mark.parametrize("hashed", [True, False])
def test_what_a_broken_connection_leaves_is_not_kept(
    server: Server, cache: Path, tiny_release: Path, hashed: bool
) -> None:
    server.files["/model.safetensors"] = data = (tiny_release / "model.safetensors").read_bytes()
    server.breaks = 1
    url = server.url() + (f"#sha256={hashlib.sha256(data).hexdigest()}" if hashed else "")
    with pytest.raises(CheckpointError, match=naming(server.url())):
        hubconf.aalbert_url(ckpt=url, progress=False)
    assert kept(cache) == []
    hubconf.aalbert_url(ckpt=url, progress=False)


FORK = multiprocessing.get_context("fork")  # a new interpreter would import torch for seconds


def _fetch(url: str, sha256: str) -> None:
    """Fetch in a forked process, which shares tqdm's lock with this one: killed while it holds it, both would wait."""
    tqdm.set_lock(threading.RLock())
    fetch(url, sha256, progress=False)


def test_a_killed_process_leaves_nothing_to_the_next_one(server: Server, cache: Path) -> None:
    slow = threading.Event()
    sent = threading.Event()

    def half(handler: Handler) -> None:
        server.answers += 1
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(CONTENT)))
        handler.end_headers()
        handler.wfile.write(CONTENT[: len(CONTENT) // 2])
        handler.wfile.flush()
        sent.set()
        slow.wait(60)

    server.RequestHandlerClass = type("Slow", (Handler,), {"do_GET": half})
    process = FORK.Process(target=_fetch, args=(server.url(), SHA256))
    process.start()
    assert sent.wait(60)
    process.kill()
    process.join()
    slow.set()
    assert "model.safetensors" not in kept(cache)
    server.RequestHandlerClass = Handler
    assert fetch(server.url(), SHA256, progress=False).read_bytes() == CONTENT
    assert kept(cache) == ["model.safetensors"]


def test_processes_that_ask_at_the_same_time_download_once(server: Server) -> None:
    processes = [FORK.Process(target=_fetch, args=(server.url(), SHA256)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0] and server.answers == 1


def test_what_the_server_says_is_passed_on(server: Server) -> None:
    with pytest.raises(CheckpointError, match=naming(server.url("/missing"), 404)):
        fetch(server.url("/missing"), progress=False)
    server.status = 503
    with pytest.raises(CheckpointError, match=naming(server.url(), 503)):
        fetch(server.url(), progress=False)


def test_a_name_with_letters_that_a_url_cannot_hold(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "größe und mehr.safetensors").write_bytes(b"weights")
    for url in (f"file://{tmp_path}/größe und mehr.safetensors", (tmp_path / "größe und mehr.safetensors").as_uri()):
        found = fetch(url, progress=False)
        assert found.name == "größe und mehr.safetensors" and found.read_bytes() == b"weights"


def test_nobody_there(server: Server) -> None:
    url = server.url()
    server.server_close()
    with pytest.raises(CheckpointError, match="could not be downloaded"):
        fetch(url, progress=False)


@pytest.mark.parametrize(
    ("url", "sha256", "message"),
    [
        ("models/model.safetensors", None, "is not a URL"),
        ("ftp://host/file", None, "is not a URL"),
        ("http://[abc/x", None, "is not a URL"),
        ("http://host/%00.safetensors", None, "is not a URL"),
        ("http://host/file", "12345678", "64 hexadecimal digits"),
        ("http://host/file", "g" * 64, "64 hexadecimal digits"),
        ("http://host/file#sha256=" + "a" * 64, "b" * 64, "another SHA-256"),
    ],
)
def test_arguments_that_cannot_be_meant(url: str, sha256: str | None, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        fetch(url, sha256, progress=False)


def test_a_folder_that_cannot_be_made(server: Server, tmp_path: Path) -> None:
    (tmp_path / "torch").write_bytes(b"")
    with pytest.raises(CheckpointError, match=naming(tmp_path / "torch")):
        fetch(server.url(), progress=False)


@pytest.mark.parametrize("length", ["abc", "1e6", "9" * 5000])
def test_a_length_that_is_no_number_is_one_sentence(server: Server, cache: Path, length: str) -> None:
    server.headers = {"Content-Length": length.encode().decode("latin-1")}
    with pytest.raises(CheckpointError, match=naming(server.url("/odd"), "could not be downloaded")):
        fetch(server.url("/odd"), progress=False)
    assert kept(cache) == []


@pytest.mark.parametrize("kind", ["folder", "pipe", "nothing"])
def test_a_file_url_of_no_file(tmp_path: Path, cache: Path, kind: str) -> None:
    path = tmp_path / "x"
    if kind != "nothing":
        path.mkdir() if kind == "folder" else os.mkfifo(path)
    with pytest.raises(CheckpointError, match="no such file" if kind == "nothing" else "not a file"):
        fetch(path.as_uri(), progress=False)
    assert kept(cache) == []


def test_progress_is_shown_on_request(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    fetch(server.url(), progress=False)
    quiet = capsys.readouterr()
    fetch(server.url(), refresh=True)
    shown = capsys.readouterr()
    assert quiet.err == quiet.out == shown.out == "" and "1.00M/1.00M" in shown.err


def test_the_upstream_entry(server: Server, tiny_release: Path) -> None:
    server.files["/tiny.safetensors"] = data = (tiny_release / "model.safetensors").read_bytes()
    url = f"{server.url('/tiny.safetensors')}#sha256={hashlib.sha256(data).hexdigest()}"
    wave = torch.sin(torch.arange(4000) / 20)
    local = hubconf.aalbert_local(ckpt=str(tiny_release)).eval()
    for arguments in ({"progress": False}, {"model_config": None, "refresh": False}):  # torch.hub's and S3PRL's calls
        found = hubconf.aalbert_url(ckpt=url, **arguments).eval()
        with torch.no_grad():
            assert torch.equal(found([wave])["last_hidden_state"], local([wave])["last_hidden_state"])
    assert server.answers == 1
    hubconf.aalbert_url(ckpt=url, refresh=True, progress=False)
    assert server.answers == 2


@pytest.mark.parametrize("name", ["model.safetensors", "content", "states-1.ckpt", "weights.bin"])
def test_a_checkpoint_is_told_by_its_content(server: Server, tiny_release: Path, tmp_path: Path, name: str) -> None:
    checkpoint = load_checkpoint(tiny_release)
    save_training_state(tmp_path / "state", checkpoint.config, {"model": checkpoint.state, "step": 1})
    for file in (tiny_release / "model.safetensors", tmp_path / "state"):
        data = file.read_bytes()
        server.files[f"/{name}"] = data
        url = f"{server.url(f'/{name}')}#sha256={hashlib.sha256(data).hexdigest()}"
        found = hubconf.aalbert_url(ckpt=url, progress=False).model.state_dict()
        assert all(torch.equal(weight, checkpoint.state[f"model.{key}"]) for key, weight in found.items())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\n<!DOCTYPE html><html>not found</html>", "web page"),
        (gzip.compress(CONTENT), "gzip archive"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b'{"error": "no such model"}', "JSON"),
        (b"", "empty"),
        (CONTENT, "damaged"),
        ((8).to_bytes(8, "little") + b"{      }", "another program"),
    ],
)
@pytest.mark.parametrize("hashed", [True, False], ids=["hash", "no hash"])
def test_what_is_no_checkpoint_is_not_kept(
    server: Server, cache: Path, tiny_release: Path, content: bytes, message: str, hashed: bool
) -> None:
    server.files["/odd"], server.headers = content, {"X-None": ""}
    url = server.url("/odd") + (f"#sha256={hashlib.sha256(content).hexdigest()}" if hashed else "")
    with pytest.raises(CheckpointError, match=naming(server.url("/odd"), message)):
        hubconf.aalbert_url(ckpt=url, progress=False)
    assert kept(cache) == []
    server.files["/odd"] = data = (tiny_release / "model.safetensors").read_bytes()
    url = server.url("/odd") + (f"#sha256={hashlib.sha256(data).hexdigest()}" if hashed else "")
    hubconf.aalbert_url(ckpt=url, progress=False)


def test_a_web_page_that_an_earlier_version_kept_is_replaced(server: Server, tiny_release: Path) -> None:
    server.files["/odd"], server.headers = b"<html>", {"X-None": ""}
    page = fetch(server.url("/odd"), progress=False)  # no check: kept
    assert page.read_bytes() == b"<html>"
    server.files["/odd"] = data = (tiny_release / "model.safetensors").read_bytes()
    hubconf.aalbert_url(ckpt=server.url("/odd"), progress=False)
    assert page.read_bytes() == data


def test_a_url_for_a_path_is_told_where_it_belongs() -> None:
    for url in ("https://host/model.safetensors", "file:///model.safetensors"):
        with pytest.raises(CheckpointError, match=naming(url, "-u aalbert_url")):
            hubconf.aalbert_local(ckpt=url)


def test_the_configuration_of_a_model_at_a_url_is_that_of_the_local_copy(
    server: Server, tiny_release: Path, tiny_config: ModelConfig, tmp_path: Path
) -> None:
    server.files["/model.safetensors"] = (tiny_release / "model.safetensors").read_bytes()
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        upstream_config("aalbert_url", server.url(), None)
    assert server.answers == 0, "nothing is downloaded for it"
    hubconf.aalbert_url(ckpt=server.url(), progress=False)
    answers, arch = server.answers, tmp_path / "arch.yaml"
    assert upstream_config("aalbert_url", f"{server.url()}#sha256={'0' * 64}", None) == tiny_config
    arch.write_text("hidden_size: 16\nnum_hidden_layers: 2\nnum_attention_heads: 2\nintermediate_size: 8\n")
    small = upstream_config("aalbert_url", server.url(), str(arch))
    assert small is not None and small.transformer.hidden_size == 16 and server.answers == answers
