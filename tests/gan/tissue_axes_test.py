"""Generators of any kind of tissue: trained on all that atoms differ in, refused elsewhere, read from older files."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganmrf.anchors.generator_file import load_generator, save_generator
from ganmrf.dictionary.build import build_dictionary
from ganmrf.dictionary.grids import grid_box, grid_of, random_tissue
from ganmrf.gan.baselines import linear_interpolation, radial_basis_functions
from ganmrf.gan.data import split_and_scale
from ganmrf.gan.generate import fingerprints, finish, generate, stream
from ganmrf.gan.recipes import recipe
from ganmrf.gan.train import fit, init_state
from ganmrf.metrics import fingerprint_errors
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.sequences.sequence_power import Power, with_power
from ganmrf.physics.tissue import Tissue

pytestmark = pytest.mark.usefixtures("quick_compiler")

SMALL = {"width": 32, "depth": 2, "rank": 20, "steps": 300, "optimiser": "adam"}
SEQUENCE = mrf_fisp(60)
BOXES = {
    "one_pool": grid_box("one_pool", t1=[0.3, 3.0], t2=[0.03, 0.3], b1=[0.7, 1.3]),
    "exchanging": grid_box(
        "exchanging",
        t1=[0.5, 3.0],
        t2=[0.05, 0.3],
        fraction=[0, 0.3],
        exchange_rate=[2, 40],
        t1_b=0.4,
        t2_b=[0.01, 0.03],
    ),
    "semisolid": grid_box(
        "semisolid",
        t1=[0.5, 3.0],
        t2=[0.03, 0.3],
        fraction=[0, 0.3],
        exchange_rate=[5, 50],
        t1_b=[0.2, 1.0],
        lineshape=[8e-6, 2e-5],
        b1=[0.7, 1.3],
    ),
}


@pytest.fixture(scope="module", params=BOXES)
def trained(request):
    """A generator of 600 random tissues of a kind, and what it learned from."""
    box = BOXES[request.param]
    sequence = with_power(SEQUENCE, Power(2e-3, 1.5)) if request.param == "semisolid" else SEQUENCE
    dictionary = build_dictionary(sequence, random_tissue(box, 600, np.random.default_rng(0)))
    chosen = recipe(**SMALL)
    data = split_and_scale(dictionary, chosen, split=(1, 0, 0))
    *_, (state, _) = fit(chosen, data, init_state(chosen, data), chunk=chosen.steps)
    return finish(chosen, state.params, data, dictionary), dictionary, box


def test_tissues_between_those_of_training_are_generated(trained):
    generator, dictionary, box = trained
    assert (generator.box.names, generator.box.kind) == (box.names, box.kind)
    one_b1 = {} if "b1" in box.names else {"b1": 1.0}
    assert dict(generator.box.fixed) == pytest.approx(dict(box.fixed) | one_b1)
    atoms = box.spread(np.random.default_rng(1).random((100, len(box.names))))
    truth, made = build_dictionary(dictionary.sequence, atoms), generate(generator, atoms)
    errors = fingerprint_errors(made.fingerprints, truth.fingerprints)
    # Far below what tissues of a box differ by.
    assert errors.mean() < 0.15 * fingerprint_errors(truth.fingerprints[::-1], truth.fingerprints).mean()
    assert np.abs(made.norms / truth.norms - 1).mean() < 0.5 * np.abs(truth.norms[::-1] / truth.norms - 1).mean()
    np.testing.assert_array_equal(stream(generator, atoms).fingerprints[3:6], made.fingerprints[3:6])


def test_each_axis_can_be_differentiated(trained):
    generator, _, box = trained
    (middle,) = (box.low + box.high)[None] / 2
    direction = np.random.default_rng(0).standard_normal(60)

    def projected(values):
        one = [value[None] for value in values]
        return jnp.dot(fingerprints(generator, *one[:2], jnp.zeros((1, 0)), *one[2:])[0][0], direction)

    slope = np.asarray(jax.jit(jax.grad(projected))(jnp.float32(middle)))
    for axis, step in enumerate(0.01 * (box.high - box.low)):
        ends = [projected(jnp.float32(middle + sign * step * np.eye(middle.size)[axis])) for sign in (-1, 1)]
        np.testing.assert_allclose(slope[axis] * step, (ends[1] - ends[0]) / 2, rtol=0.05, atol=2e-4)


def test_what_lies_outside_or_is_of_another_kind_is_refused(trained):
    generator, _, box = trained
    atoms = box.spread(np.full((2, len(box.names)), 0.5))
    name = box.names[-1]
    beyond = dataclasses.replace(atoms, **{name: np.float32([box.high[-1], 1.5 * box.high[-1]])})
    with pytest.raises(ValueError, match=f"1 of 2 atoms lie outside .* {name} = .*50 % beyond"):
        generate(generator, beyond)
    assert generate(generator, beyond, allow_extrapolation=True).norms.size == 2
    other = Tissue(1.0, 0.1) if box.kind != "one_pool" else BOXES["semisolid"].spread(np.full((1, 7), 0.5))
    with pytest.raises(ValueError, match="for tissue of the kind"):
        generate(generator, other, allow_extrapolation=True)
    for fixed, value in generator.box.fixed:
        with pytest.raises(ValueError, match=f"trained at {fixed} = {value:g}"):
            generate(generator, dataclasses.replace(atoms, **{fixed: 1.1 * value}), allow_extrapolation=True)


def test_a_file_gives_the_same_generator(trained, tmp_path):
    generator, dictionary, _ = trained
    save_generator(tmp_path / "g.npz", generator)
    one, other = (generate(each, dictionary.tissue) for each in (generator, load_generator(tmp_path / "g.npz")))
    np.testing.assert_array_equal(one.fingerprints, other.fingerprints)
    np.testing.assert_array_equal(one.norms, other.norms)


@pytest.mark.parametrize("b1", [1.0, 0.9])
def test_files_that_hold_b1_beside_the_box_are_read(tmp_path, b1):
    """Their scaling says no names of axes, their box no values that are fixed: those of T1 and T2 alone were all."""
    dictionary = build_dictionary(SEQUENCE, grid_of([0.5, 1.0, 2.0], [0.05, 0.1, 0.2], b1))
    chosen = recipe(**SMALL | {"steps": 2})
    data = split_and_scale(dictionary, chosen, split=(1, 0, 0))
    generator = finish(chosen, init_state(chosen, data).params, data, dictionary)
    save_generator(tmp_path / "new.npz", generator)
    with np.load(tmp_path / "new.npz") as archive:
        contents = dict(archive)
    structure = json.loads(str(contents["structure"]))
    fields = dict(structure["fields"])
    for name, unknown in (("scaling", {"names"}), ("box", {"fixed", "periodic"})):
        fields[name]["fields"] = [each for each in fields[name]["fields"] if each[0] not in unknown]
    older = ["adversarial_loss", "spectral_norm", "slope_weight"]
    fields["recipe"]["fields"] = [each for each in fields["recipe"]["fields"] if each[0] not in older]
    fields["b1"] = {"array": "b1", "jax": False, "shape": [], "dtype": "float32"}
    fields["off_resonance"] = {"value": None}
    contents |= {"b1": np.float32(b1), "structure": json.dumps(structure | {"fields": list(fields.items())})}
    np.savez(tmp_path / "old.npz", **contents)
    found = load_generator(tmp_path / "old.npz")
    tissue = dictionary.tissue
    np.testing.assert_array_equal(generate(found, tissue).fingerprints, generate(generator, tissue).fingerprints)
    with pytest.raises(ValueError, match=f"trained at b1 = {b1:g} alone"):
        generate(found, Tissue(1.0, 0.1, 0.8))


def test_radial_basis_functions_of_every_axis(trained):
    _, dictionary, box = trained
    atoms = box.spread(np.random.default_rng(1).random((50, len(box.names))))
    truth = build_dictionary(dictionary.sequence, atoms).fingerprints
    made = radial_basis_functions(dictionary.tissue, dictionary.fingerprints)(atoms)
    assert fingerprint_errors(made, truth).mean() < 0.15 * fingerprint_errors(truth[::-1], truth).mean()
    back = radial_basis_functions(dictionary.tissue, dictionary.fingerprints)(dictionary.tissue)
    # 60 frames hold all of 60 coefficients, and atoms at the ends of a box lie near each other.
    assert fingerprint_errors(back, dictionary.fingerprints).max() < 1e-3
    with pytest.raises(ValueError, match=f"over T1 and T2 alone; the atoms have {box.names[2]}"):
        linear_interpolation(dictionary.tissue, dictionary.fingerprints)
