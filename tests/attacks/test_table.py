"""Every attack of the table on every model of the table, property by property."""

from __future__ import annotations

import inspect

import pytest
import torch

from advlearn import attacks
from tests.attacks.properties import LABELS, PROPERTIES
from tests.attacks.table import ATTACKS, MODELS, make_network
from tests.conftest import make_digits

# Small products gain nothing from a second thread, and wait for it on a busy machine.
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", autouse=True)
def _no_limit_of_compilation():
    """Compile anew for gradients off, autocast, a smaller batch: after 8, PyTorch just stops."""
    with torch._dynamo.config.patch(cache_size_limit=64):
        yield


def cases():
    """Pair each row with each property that applies, and those on models with each variant.

    A property that is only about attacks, or an attack that takes no model, needs one variant.
    """
    for attack in ATTACKS:
        for check in PROPERTIES.values():
            if check.why_not(attack) is None:
                many = check.on_models and attack.takes("model")
                for variant in MODELS if many else MODELS[:1]:
                    if check.name in variant.exempt:
                        continue
                    name = f"{attack}-{check}" + (f"-{variant}" if many else "")
                    yield pytest.param(attack, check, variant, id=name)


@pytest.mark.parametrize(("attack", "check", "variant"), list(cases()))
def test_property(attack, check, variant):
    check.run(attack, variant)


def exemptions():
    for attack in ATTACKS:
        for name in attack.exempt:
            yield pytest.param(attack, name, id=f"{attack}-{name}")


# A loss that fades gives no direction: that is why it is exempt.
@pytest.mark.filterwarnings("ignore::advlearn.directions.NoDirectionWarning")
@pytest.mark.parametrize(("attack", "name"), list(exemptions()))
def test_an_exemption_is_needed(attack, name):
    """What an attack is exempt from exists, would apply to it otherwise, and fails."""
    check = PROPERTIES[name]
    assert all(attack.takes(parameter) for parameter in check.needs)
    with pytest.raises((AssertionError, ValueError)):
        check.run(attack, MODELS[0])


@pytest.mark.parametrize("variant", [v for v in MODELS if v.exempt], ids=str)
def test_an_exemption_of_a_model_is_needed(variant):
    for name in variant.exempt:
        with pytest.raises(RuntimeError):
            PROPERTIES[name].run(ATTACKS[0], variant)


def test_every_public_attack_stands_in_the_table():
    """An attack is a public function of the module that makes a tensor out of images."""
    public = {
        name
        for name, function in inspect.getmembers(attacks, inspect.isfunction)
        if function.__module__ == attacks.__name__
        and not name.startswith("_")
        and "x" in inspect.signature(function).parameters
        and inspect.signature(function).return_annotation == "Tensor"
    }
    assert public == {attack.function for attack in ATTACKS}
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS)


def test_every_property_is_about_some_attack():
    for check in PROPERTIES.values():
        assert any(check.why_not(attack) is None for attack in ATTACKS), check


def test_each_parameter_with_a_default_is_tried_in_some_row():
    """A new option needs a row. The generator is passed by the table itself, images by a test."""
    for name in {attack.function for attack in ATTACKS}:
        rows = [attack for attack in ATTACKS if attack.function == name]
        tried = {option for attack in rows for option in attack.options}
        options = {n for n, p in rows[0].own_parameters.items() if p.kind is p.KEYWORD_ONLY}
        assert options - tried <= {"generator", "start"}, name


@pytest.mark.parametrize("variant", MODELS, ids=str)
def test_a_variant_is_the_same_network_in_eval_mode(variant):
    model, network = variant.build()
    modes = [module.training for module in network.modules()]
    network.eval()
    x = make_digits()
    torch.testing.assert_close(model(x.clone()), variant.reference()(x.clone()))
    for module, mode in zip(network.modules(), modes, strict=True):
        module.training = mode


def test_the_compiled_variant_is_compiled():
    """Inside an attack a graph of the network is made, with the flags that the attack sets."""
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    attacks.fgsm(torch.compile(make_network(), backend=backend), make_digits(), LABELS, 0.1)
    assert graphs
