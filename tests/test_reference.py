"""Model files: what goes in comes out, and nothing else is believed. The published models."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct

import pytest
import torch
from safetensors.torch import save

from advlearn.attacks import fgsm, pgd
from advlearn.certify import certified, certified_error_rate
from advlearn.data import load_mnist, reference, subset_classes
from advlearn.data.folders import published
from advlearn.metrics import adversarial_error_rate, craft, error_rate
from advlearn.models import Ensemble, MaxoutNet, SoftmaxRegression
from advlearn.reproduce.models.recipes import MODELS, SHIPPED
from advlearn.reproduce.report.page import description_of

OPTIONS = {
    "LogisticRegression": {"features": 16},
    "SoftmaxRegression": {"features": 16, "classes": 3},
    "MaxoutNet": {"features": 16, "hidden": [4, 3], "pieces": 2, "top": "sigmoid"},
    "ConvMaxoutNet": {"channels": [2, 3, 2], "size": 4, "colours": 1},
    "ConvNet": {"channels": [2, 2], "pixelwise": 2, "dense": 3, "size": 4},
    "RBFNet": {"features": 16, "classes": 3},
    "SubspaceMixture": {"features": 16, "classes": 3, "components": 2, "rank": 2},
    "Ensemble": {
        "members": 2,
        "architecture": "SoftmaxRegression",
        "options": {"features": 16, "classes": 3},
    },
}
X = torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(0))


def stirred(architecture):
    """Build a model and give every parameter and buffer a value of its own."""
    model = reference.build(architecture, OPTIONS[architecture])
    generator = torch.Generator().manual_seed(1)
    for value in model.state_dict().values():
        value.add_(torch.rand(value.shape, generator=generator))
    return model


def packed(architecture="SoftmaxRegression", **options):
    return reference.pack(
        stirred(architecture), architecture, OPTIONS[architecture], {"recipe": "none"}, **options
    )


# --- Files ----------------------------------------------------------------------------------------


def test_every_architecture_is_tried_here():
    assert set(OPTIONS) == {*reference.ARCHITECTURES, "Ensemble"}


@pytest.mark.parametrize("architecture", OPTIONS)
def test_a_model_makes_a_round_trip_bit_for_bit(architecture):
    model, about = stirred(architecture), {"recipe": "ß", "losses": [0.5, 0.25]}
    content = reference.pack(model, architecture, OPTIONS[architecture], about)
    again, read_back = reference.unpack(content)
    assert type(again) is type(model)
    assert again(X).equal(model(X))
    assert read_back == about
    assert not again.training
    assert not any(p.requires_grad for p in again.parameters())
    assert reference.describe(content) == {
        "architecture": architecture,
        "options": OPTIONS[architecture],
        "about": about,
    }


@pytest.mark.parametrize("name", ["softmax", "rbf", "maxout-masked", "generative", "ensemble"])
@pytest.mark.parametrize("default", [torch.float64, torch.float16])
def test_a_model_is_float32_whatever_pytorchs_default_is(name, default):
    """Another library may have set it. The images of the loaders are float32 too."""
    images, expected = torch.rand(3, 1, 28, 28), []
    for kind in (torch.float32, default):
        torch.set_default_dtype(kind)
        try:
            model = reference.load(name)
            with torch.no_grad():
                expected.append(model(images))
        finally:
            torch.set_default_dtype(torch.float32)
        assert {p.dtype for p in model.state_dict().values()} == {torch.float32}
    assert expected[0].equal(expected[1])


def test_half_halves_the_file_and_comes_back_as_float32():
    model = MaxoutNet()
    whole, half = (reference.pack(model, "MaxoutNet", {}, {}, half=half) for half in (False, True))
    assert len(half) < 0.51 * len(whole)
    again, _ = reference.unpack(half)
    for mine, kept in zip(model.parameters(), again.parameters(), strict=True):
        assert kept.dtype == torch.float32
        assert kept.equal(mine.detach().half().float())


def test_packing_leaves_the_model_as_it_was():
    model = stirred("SoftmaxRegression").train()
    before = [p.detach().clone() for p in model.parameters()]
    reference.pack(model, "SoftmaxRegression", OPTIONS["SoftmaxRegression"], {}, half=True)
    assert model.training
    assert all(a.equal(b) for a, b in zip(before, model.parameters(), strict=True))


def test_what_cannot_be_kept_is_refused():
    model = stirred("SoftmaxRegression")
    with pytest.raises(ValueError, match="model is not what build"):
        reference.pack(model, "SoftmaxRegression", {"features": 16, "classes": 4}, {})
    with torch.no_grad():
        model.linear.weight[0, 0] = 1e6
    options = OPTIONS["SoftmaxRegression"]
    with pytest.raises(ValueError, match=r"weight holds NaN or infinity in float16.*half=False"):
        reference.pack(model, "SoftmaxRegression", options, {}, half=True)
    with torch.no_grad():
        model.linear.weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"weight holds NaN or infinity\. The model has diverged"):
        reference.pack(model, "SoftmaxRegression", options, {})


def rewritten(content, **changes):
    """Return the file with another text about itself, and the same tensors."""
    text = reference.describe(content) | changes
    tensors = dict(reference.unpack(content)[0].state_dict())
    return save(tensors, metadata={"advlearn": json.dumps(text)})


def damaged_files():
    good = packed()
    tensors = dict(reference.unpack(good)[0].state_dict())
    (size,) = struct.unpack("<Q", good[:8])
    broken = {key: value.clone() for key, value in tensors.items()}
    broken["linear.bias"][0] = torch.inf
    text = {"advlearn": json.dumps(reference.describe(good))}
    yield "empty", b"", "the file is damaged"
    yield "cut in the tensors", good[:-1], "the file is damaged"
    yield "cut in the header", good[: size // 2], "the file is damaged"
    yield "another length", struct.pack("<Q", size - 1) + good[8:], "the file is damaged"
    yield "a pickle", b"\x80\x04\x95" + bytes(50), "the file is damaged"
    yield (
        "of someone else",
        save(tensors),
        "the file is damaged, or is not a model file of the course",
    )
    yield "text that is not an object", save(tensors, {"advlearn": "[1]"}), "the file is damaged"
    yield "infinite", save(broken, text), "the file holds NaN or infinity in linear.bias"
    yield "fewer tensors", save({"linear.bias": tensors["linear.bias"]}, text), "do not fit"
    yield "another size", rewritten(good, options={"features": 4}), "tensors that do not fit"
    unknown = "the file holds no model of the course: architecture must be one of .*'Module'"
    yield "unknown architecture", rewritten(good, architecture="Module"), unknown
    yield "unknown option", rewritten(good, options={"feature": 16}), "the file .* do not fit"
    yield "options of a wrong kind", rewritten(good, options=None), "the file .* do not fit"
    yield "option of a wrong kind", rewritten(good, options={"features": "16"}), "the file|features"


@pytest.mark.parametrize(
    ("content", "words"),
    [pytest.param(content, words, id=id) for id, content, words in damaged_files()],
)
def test_a_damaged_or_foreign_file_is_refused(content, words):
    with pytest.raises((ValueError, TypeError), match=words):
        reference.unpack(content)


def test_the_message_says_which_file():
    with pytest.raises(ValueError, match=r"maxout\.safetensors is damaged"):
        reference.unpack(b"nonsense", "maxout.safetensors")


def test_unknown_architectures_and_options_are_named():
    with pytest.raises(ValueError, match=r"architecture must be one of .*MaxoutNet.*Ensemble"):
        reference.build("Transformer", {})
    with pytest.raises(ValueError, match=r"options .* do not fit MaxoutNet"):
        reference.build("MaxoutNet", {"layers": 3})
    with pytest.raises(ValueError, match="architecture of the members must be one of"):
        reference.build("Ensemble", {"members": 2, "architecture": "Ensemble", "options": {}})
    with pytest.raises(ValueError, match=r"options .* do not fit Ensemble"):
        reference.build("Ensemble", {"members": 2})


# --- A folder of models ---------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    content = packed()
    (tmp_path / "small.safetensors").write_bytes(content)
    entry = {"file": "small.safetensors", "sha256": hashlib.sha256(content).hexdigest()}
    (tmp_path / "index.json").write_text(json.dumps({"small": entry, "gone": entry}))
    return tmp_path


def test_a_model_is_loaded_by_its_name(folder):
    assert reference.load("small", folder)(X).equal(stirred("SoftmaxRegression")(X))


def test_an_unknown_name_is_answered_with_those_that_exist(folder):
    with pytest.raises(ValueError, match="name must be one of small, gone, got 'smal'"):
        reference.load("smal", folder)


def test_a_file_that_is_not_the_one_of_the_index_is_refused(folder):
    path = folder / "small.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"small\.safetensors is not the file of the index.*sha256"
    ):
        reference.load("small", folder)


def test_a_missing_file_is_named(folder):
    (folder / "small.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"small\.safetensors is missing\. Install"):
        reference.load("small", folder)


def test_without_an_index_the_message_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no reference models in .*advlearn reproduce"):
        reference.load("softmax", tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"small": 3}', '{"small": {"file": "a"}}'])
def test_a_damaged_index_is_named(folder, text):
    (folder / "index.json").write_text(text)
    with pytest.raises(ValueError, match=r"index\.json is damaged .* Install the course again"):
        reference.load("small", folder)


# --- What is published ----------------------------------------------------------------------------

WEIGHTS = published("weights")
INDEX = reference.index()
LARGEST = 25_000_000  # bytes in all: a clone and a wheel stay small


def digits_for(entry, name):
    """Return held-out digits of the kind that a model is for, or None."""
    test = load_mnist("test", source="offline")
    if name == "cifar":
        return None
    return subset_classes(test, (3, 7)) if entry["architecture"] == "LogisticRegression" else test


def eps_of(name):
    """Return the eps that a published model is attacked at."""
    return MODELS[SHIPPED[name][0][0]].attack_eps


def test_no_model_is_published_under_an_unknown_name():
    assert set(INDEX) <= set(SHIPPED)


def test_all_models_are_published_once_there_are_results():
    if published("results").exists():
        assert set(INDEX) == set(SHIPPED)


def test_the_index_describes_the_recipe_that_the_code_has():
    """Stale? `python -m advlearn.reproduce.report` writes it anew."""
    for name, entry in INDEX.items():
        assert entry["recipe"] == description_of(name), name


def test_the_published_files_are_those_of_the_index_and_small():
    files = {path.name: path.stat().st_size for path in WEIGHTS.glob("*.safetensors")}
    assert set(files) == {entry["file"] for entry in INDEX.values()}
    assert sum(files.values()) < LARGEST
    for entry in INDEX.values():
        content = (WEIGHTS / entry["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry["sha256"]
        assert len(content) == entry["bytes"]
        text = reference.describe(content)
        assert (text["architecture"], text["options"]) == (entry["architecture"], entry["options"])
        assert entry["data"] == text["about"]["data"]
        assert "5,000 offline digits" in entry["data"] or "CIFAR-10" in entry["data"]


def test_a_changed_published_file_is_refused(tmp_path):
    for name in ("index.json", "softmax.safetensors"):
        shutil.copy(WEIGHTS / name, tmp_path)
    reference.load("softmax", tmp_path)
    with (tmp_path / "softmax.safetensors").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ValueError, match="not the file of the index"):
        reference.load("softmax", tmp_path)


def close(measured, expected):
    """Compare a rate on some digits with the published one on the test digits: 4 deviations."""
    share = expected["count"] / expected["total"]
    spread = (max(share * (1 - share), 0.01) * (1 / measured.total + 1 / expected["total"])) ** 0.5
    return abs(float(measured) - share) < 4 * spread + 0.01


@pytest.mark.parametrize("name", [name for name in INDEX if name != "cifar"])
def test_a_published_model_errs_as_often_as_its_index_says(name):
    """On 1,000 digits that it has not seen, clean and under FGSM (eps of its own)."""
    entry = INDEX[name]
    model, data = reference.load(name), digits_for(entry, name)
    clean = error_rate(model, data)
    eps = eps_of(name)
    if not entry["measured"]:  # not attacked by itself
        assert float(clean) < 0.03
        return
    assert close(clean, entry["measured"]["clean error"]), (clean, entry["measured"])
    few = data.take(slice(500))
    attacked = adversarial_error_rate(model, few, eps, bounds=None)
    assert close(attacked, entry["measured"]["FGSM error"]), (attacked, entry["measured"])


def share(name, quantity):
    rate = INDEX[name]["measured"][quantity]
    return rate["count"] / rate["total"]


def test_the_masked_model_fools_fgsm_and_not_pgd():
    if "maxout-masked" not in INDEX:
        assert not published("results").exists(), "it is published with the results"
        return
    assert share("maxout-masked", "FGSM error") < 0.03
    assert share("maxout-masked", "PGD error") > 0.95
    model = reference.load("maxout-masked")
    digits = load_mnist("test", source="offline")
    assert float(adversarial_error_rate(model, digits.take(slice(500)), 0.25, bounds=None)) < 0.1
    few, start = digits.take(slice(100)), torch.Generator().manual_seed(0)
    assert (
        float(
            adversarial_error_rate(
                model, few, 0.25, attack=pgd, steps=20, generator=start, bounds=None
            )
        )
        > 0.9
    )


def test_the_robust_model_resists_pgd():
    """Weaker than the rate that is published: 100 digits, 10 steps. FGSM beside it."""
    if "robust" not in INDEX:
        assert not published("results").exists(), "it is published with the results"
        return
    model = reference.load("robust")
    few = load_mnist("test", source="offline").take(slice(100))
    start = torch.Generator().manual_seed(0)
    under_pgd = adversarial_error_rate(model, few, 0.3, attack=pgd, steps=10, generator=start)
    assert float(under_pgd) < 0.2
    assert share("robust", "PGD error, clipped") <= 0.11
    assert share("robust", "FGSM error, clipped") <= share("robust", "PGD error, clipped") + 0.02


@pytest.mark.full
@pytest.mark.parametrize(("step_size", "most"), [(0.01, 0.11), (None, 0.12)])
def test_the_robust_model_resists_pgd_40_with_20_restarts(step_size, most):
    """On the first 1,000 test digits. The longer step, which can cross the ball, finds more."""
    few = load_mnist("test", source="files").take(slice(1000))
    error = adversarial_error_rate(
        reference.load("robust"),
        few,
        0.3,
        attack=pgd,
        steps=40,
        step_size=step_size,
        restarts=20,
        generator=torch.Generator().manual_seed(0),
    )
    assert float(error) <= most


def test_most_digits_of_the_certified_model_are_certified():
    """No attack gets above what is certified: each digit that PGD takes is one without a proof."""
    if "certified" not in INDEX:
        assert not published("results").exists(), "it is published with the results"
        return
    assert share("certified", "certified error") <= 0.11
    assert share("certified", "PGD error, clipped") <= share("certified", "certified error") + 0.02
    model, digits = reference.load("certified"), load_mnist("test", source="offline")
    assert close(
        certified_error_rate(model, digits, 0.3), INDEX["certified"]["measured"]["certified error"]
    )
    few = digits.take(slice(200))
    proved = certified(model, few.x, few.y, 0.3)
    moved = craft(model, few, 0.3, attack=pgd, steps=10, generator=torch.Generator().manual_seed(0))
    assert not bool((proved & (model(moved).argmax(1) != few.y)).any())
    assert bool((model(moved).argmax(1) != few.y).any()), "the attack takes nothing at all"


@pytest.mark.full
@pytest.mark.parametrize("name", [name for name in INDEX if INDEX[name]["measured"]])
def test_the_published_rates_are_those_of_the_shipped_weights(name):
    """Clean and FGSM on all test digits: the very numbers of the index."""
    entry = INDEX[name]
    if name == "cifar":
        pytest.skip("needs CIFAR-10 whitened")
    data = load_mnist("test", source="files")
    if entry["architecture"] == "LogisticRegression":
        data = subset_classes(data, (3, 7))
    model = reference.load(name)
    eps = eps_of(name)
    crafted = craft(model, data, eps, attack=fgsm, bounds=None)
    rates = [
        (error_rate(model, data), "clean error"),
        (error_rate(model, (crafted, data.y)), "FGSM error"),
    ]
    if "certified error" in entry["measured"]:
        rates.append((certified_error_rate(model, data, eps), "certified error"))
    for rate, quantity in rates:
        # Another processor may round another way at a boundary or two.
        assert abs(rate.count - entry["measured"][quantity]["count"]) <= 2, quantity


def test_packing_and_loading_leave_the_random_state_as_it_was():
    model = reference.build("MaxoutNet", OPTIONS["MaxoutNet"])
    torch.manual_seed(5)
    before = torch.get_rng_state()
    reference.unpack(reference.pack(model, "MaxoutNet", OPTIONS["MaxoutNet"], {}))
    reference.load("softmax")
    assert torch.get_rng_state().equal(before)


def test_an_ensemble_is_reloaded_whole():
    again, _ = reference.unpack(packed("Ensemble"))
    assert isinstance(again, Ensemble)
    assert all(isinstance(member, SoftmaxRegression) for member in again.members)
