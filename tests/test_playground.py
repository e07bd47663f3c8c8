"""How the playground is put together; tests/playground looks at it in a browser."""

from __future__ import annotations

import base64
import json
import re
import webbrowser
import zlib

import pytest
import torch
from typer.testing import CliRunner

from advlearn.cli import app as cli
from advlearn.data import reference
from advlearn.playground import page
from advlearn.playground.packing import as_model, in_script, in_steps, packed
from advlearn.playground.scripts import FOLDER, joined


@pytest.fixture
def modules(tmp_path):
    """A folder for modules, and a function that writes them."""

    def write(**sources):
        for name, text in sources.items():
            (tmp_path / f"{name}.js").write_text(text, encoding="utf-8")
        return tmp_path

    return write


# --- Scripts --------------------------------------------------------------------------------------


def test_modules_come_before_those_that_import_them(modules):
    folder = modules(
        main='import { b } from "./second.js";\nimport { a } from "./first.js";\n\nb(a);\n',
        second='import { a } from "./first.js";\n\nexport function b(x) {\n  return x + a;\n}\n',
        first="export const a = 1;\n",
    )
    text = joined("main", folder=folder)
    assert re.findall(r"--- (\w+)\.js", text) == ["first", "second", "main"]
    assert "import" not in text
    assert "export" not in text
    assert "function b(x) {\n  return x + a;\n}" in text


@pytest.mark.parametrize(
    ("sources", "words"),
    [
        ({"main": 'import { b } from "./other.js";\n',
          "other": "const b = 1;\n"}, r"\['b'\], not in"),
        ({"main": 'import { b } from "./other.js";\nconst a = 1;\n',
          "other": "export const b = 1;\nconst a = 2;\n"}, "a is declared by other.js and by"),
        ({"main": 'import * as b from "./other.js";\n', "other": ""}, "form that is not joined"),
        ({"main": 'import b from "./other.js";\n', "other": ""}, "form that is not joined"),
        ({"main": "export default 3;\n"}, "form that is not joined"),
        ({"main": 'export { b } from "./other.js";\n', "other": ""}, "form that is not joined"),
        ({"main": 'import { b } from "./other.js";\n',
          "other": 'import { c } from "./main.js";\nexport const b = 1;\n'}, "main > other > main"),
    ],
)  # fmt: skip
def test_what_cannot_be_joined_is_said(modules, sources, words):
    with pytest.raises(ValueError, match=words):
        joined("main", folder=modules(**sources))


def test_every_module_is_part_of_the_page():
    text = joined("main", "worker", "widget")
    assert set(re.findall(r"--- (\w+)\.js", text)) == {path.stem for path in FOLDER.glob("*.js")}


def test_no_module_speaks_to_a_host_or_runs_text():
    for path in FOLDER.glob("*.js"):
        text = path.read_text(encoding="utf-8")
        for word in (
            "fetch(",
            "XMLHttpRequest",
            "WebSocket",
            "innerHTML",
            "eval(",
            "new Function",
            "sendBeacon",
        ):
            assert word not in text, (path.name, word)


# --- Weights --------------------------------------------------------------------------------------


@pytest.mark.parametrize("planes", [1, 2, 3])
@pytest.mark.parametrize("size", [0, 1, 2, 7, 300])
def test_packing_loses_nothing(planes, size):
    content = bytes(range(256))[:size] * 2
    apart = zlib.decompress(base64.b85decode(packed(content, planes=planes)))
    again = bytearray(len(content))
    at = 0
    for plane in range(planes):
        part = len(content[plane::planes])
        again[plane::planes] = apart[at : at + part]
        at += part
    assert bytes(again) == content


@pytest.mark.parametrize("network", page.NETWORKS, ids=lambda network: network.name)
def test_a_network_of_the_page_is_the_shipped_one_but_for_rounding(network):
    shipped, rounded = reference.load(network.name), as_model(page.weights(network))
    for (key, one), other in zip(
        shipped.state_dict().items(), rounded.state_dict().values(), strict=True
    ):
        if network.step is None:
            assert torch.equal(one.half().float(), other), key
        else:
            assert float((one - other).abs().max()) <= network.step / 2, key
            large = one.abs() > 0.0625  # there float16, as it is shipped, has no smaller step
            assert torch.equal(one[large], other[large]), key
            assert bool(large.any()), key


def test_weights_that_do_not_fit_are_refused():
    model = reference.build("SoftmaxRegression", {})
    model.linear.bias.data.fill_(2.0)
    content = reference.pack(model, "SoftmaxRegression", {}, {})
    assert as_model(in_steps(content, "it", 2.0**-13)).linear.bias.tolist() == [2.0] * 10
    with pytest.raises(ValueError, match=r"linear\.bias of it does not fit"):
        in_steps(content, "it", 2.0**-14)


def test_text_in_a_script_cannot_end_it():
    value = {"a": "</script><script>alert(1)</script><!--"}
    assert "<" not in in_script(value)
    assert json.loads(in_script(value)) == value


# --- The page -------------------------------------------------------------------------------------


def test_the_page_is_small_whole_and_always_the_same():
    text = page.html()
    assert len(text.encode()) < page.MOST_BYTES
    page.html.cache_clear()
    assert page.html() == text
    assert not re.search(r"<!-- \w+ -->", text)
    addresses = set(re.findall(r"https?://[^\s\"'<>)]+", text))
    assert addresses <= {"http://www.w3.org/2000/svg"}  # a name, and no place
    assert "default-src 'none'" in text
    for network in page.NETWORKS:
        assert f'id="weights-{network.name}"' in text


def test_the_digits_are_those_that_no_network_has_seen():
    from advlearn.data import load_mnist

    pixels, labels = page.digits()
    assert labels == list(range(10)) * 10
    test = {
        row.numpy().tobytes()
        for row in (255 * load_mnist("test", source="offline").x).round().byte()
    }
    assert all(pixels[at : at + 784] in test for at in range(0, len(pixels), 784))


def test_rates_are_those_of_the_index():
    measured = reference.index()["maxout-adversarial"]["measured"]
    found = page.rates(measured, 0.25)
    assert (
        found["unclipped"]["fgsm"]
        == measured["FGSM error"]["count"] / measured["FGSM error"]["total"]
    )
    assert (
        found["clipped"]["pgd"]
        == measured["PGD error, clipped"]["count"] / measured["PGD error, clipped"]["total"]
    )
    assert found["of"] == 10_000


def test_a_page_that_grows_too_large_is_refused(monkeypatch):
    page.html.cache_clear()
    monkeypatch.setattr(page, "MOST_BYTES", 1000)
    with pytest.raises(ValueError, match="at most 1,000"):
        page.html()
    page.html.cache_clear()


# --- The command ----------------------------------------------------------------------------------


@pytest.fixture
def opened(monkeypatch, tmp_path):
    """The current folder is empty, and no browser is opened: its addresses are noted."""
    addresses: list[str] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(webbrowser, "open", lambda address: addresses.append(address) or True)
    return addresses


def call(*arguments):
    result = CliRunner().invoke(cli.app, ["playground", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result


def test_the_command_writes_the_page_and_opens_it(opened, tmp_path):
    result = call()
    path = tmp_path / "playground.html"
    assert result.exit_code == 0
    assert str(path) in result.output.replace("\n", "")
    assert opened == [path.resolve().as_uri()]
    assert path.read_text(encoding="utf-8") == page.html()
    path.write_text(f"<title>{page.TITLE}</title> an older one", encoding="utf-8")
    assert call().exit_code == 0
    assert path.read_text(encoding="utf-8") == page.html()


def test_a_copy_is_written_and_not_opened(opened, tmp_path):
    (tmp_path / "folder").mkdir()
    for given, made in (("copy.html", "copy.html"), ("folder", "folder/playground.html")):
        assert call("--out", given).exit_code == 0
        assert (tmp_path / made).read_text(encoding="utf-8") == page.html()
    assert opened == []


def test_without_a_browser(opened, monkeypatch):
    assert call("--no-browser").exit_code == 0
    assert opened == []
    monkeypatch.setattr(webbrowser, "open", lambda _: False)
    assert "open the file" in call().output


def test_what_is_no_playground_is_not_written_over(opened, tmp_path):
    mine = tmp_path / "playground.html"
    mine.write_text("my own page", encoding="utf-8")
    result = call()
    assert result.exit_code == 1
    assert "is not written over" in result.output
    assert mine.read_text(encoding="utf-8") == "my own page"
    result = call("--out", tmp_path / "nowhere" / "page.html")
    assert result.exit_code == 1
    assert "no such folder" in result.output
    assert opened == []
