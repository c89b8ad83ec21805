"""Voxels are matched with the atoms of their own off-resonance, or of their own B1 and off-resonance."""

import dataclasses

import numpy as np
import pytest

from ganmrf.dictionary.build import Dictionary
from ganmrf.dictionary.grids import pool_grid
from ganmrf.dictionary.match_with_maps import match_with_maps
from ganmrf.physics.sequences.bssfp import Bssfp
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.tissue import Tissue

HZ = np.array([-20.0, -5.0, 0.0, 10.0])
B1 = np.array([0.8, 1.0])
FRAMES = 30


def atoms_of(b1=B1, hz=HZ, dtype=np.complex64):
    """Four tissues at each B1 and off-resonance, which varies fastest, with fingerprints of no physics."""
    b1, t1, t2, hz = (axis.ravel() for axis in np.meshgrid(b1, [0.5, 1.0], [0.05, 0.1], hz, indexing="ij"))
    rows = np.random.default_rng(0).standard_normal((t1.size, FRAMES, 2)) @ [1, 1j]
    norms = np.linalg.norm(rows, axis=1)
    tissue = Tissue(t1, t2, b1, hz)
    return Dictionary(tissue, (rows / norms[:, None]).astype(dtype), norms, Bssfp(np.full(FRAMES, 0.5), 0.01))


@pytest.mark.parametrize("given", [("b0",), ("b1",), ("b0", "b1")])
def test_each_voxel_finds_the_atom_of_its_own_values(given):
    """Every atom is one voxel; where another B1 or off-resonance is wanted, its atom is not found."""
    atoms = atoms_of()
    rows = np.arange(atoms.norms.size)
    images = np.moveaxis(atoms.fingerprints.reshape(4, 8, FRAMES), -1, 0)
    tissue = Tissue(*(np.reshape(each, (4, 8)) for each in vars(atoms.tissue).values()))
    maps = {"b0_map": np.asarray(tissue.off_resonance) + 2.0, "b1_map": np.asarray(tissue.b1) + 0.05}
    maps = {name: maps[name] for name in (f"{each}_map" for each in given)}
    found = match_with_maps(atoms, images, **maps)
    np.testing.assert_array_equal(found.index.ravel(), rows)
    for name in ("t1", "t2", "b1", "off_resonance"):
        np.testing.assert_array_equal(getattr(found, name), getattr(tissue, name))
    np.testing.assert_allclose(found.quality, 1, atol=1e-6)
    for name, values, field in (("b0_map", HZ, "off_resonance"), ("b1_map", B1, "b1")):
        if name in maps:  # the next value in place of its own
            own = np.abs(values - np.asarray(getattr(tissue, field))[..., None]).argmin(axis=-1)
            other = values[(own + 1) % values.size]
            elsewhere = match_with_maps(atoms, images, **maps | {name: other})
            np.testing.assert_allclose(getattr(elsewhere, field), other)
            assert (elsewhere.quality < 0.9).all()


def test_voxels_beyond_the_off_resonances_are_told():
    images = np.ones((FRAMES, 5))
    wanted = np.array([-27.0, -12.6, -2.5, 5.1, 14.9])  # halfway the lower one
    np.testing.assert_allclose(match_with_maps(atoms_of(), images, b0_map=wanted).off_resonance, [-20, -20, -5, 10, 10])
    with pytest.warns(UserWarning, match="1 of 5 voxels have a B0 outside the dictionary's -20 to 10 .* -27 to 15.1"):
        match_with_maps(atoms_of(), images, b0_map=np.array([*wanted[:4], 15.1]))
    mask = np.arange(5) < 4
    found = match_with_maps(atoms_of(), images, b0_map=np.where(mask, wanted, np.nan), mask=mask)
    np.testing.assert_array_equal(found.index >= 0, mask)
    np.testing.assert_array_equal(found.off_resonance != 0, mask)


def test_scattered_atoms_of_a_disk_are_read_once():
    atoms, reads = atoms_of(), []

    class OnDisk:
        shape, dtype = atoms.fingerprints.shape, atoms.fingerprints.dtype

        def __array__(self, dtype=None, copy=None):
            reads.append(self.shape)
            return atoms.fingerprints

    images = np.moveaxis(atoms.fingerprints, -1, 0)
    on_disk = dataclasses.replace(atoms, fingerprints=OnDisk())
    found = match_with_maps(on_disk, images, b0_map=np.asarray(atoms.tissue.off_resonance))
    np.testing.assert_array_equal(found.index, range(atoms.norms.size))
    assert len(reads) == 1


def test_what_cannot_be_matched_is_refused():
    images, on_resonance = np.ones((FRAMES, 2)), dataclasses.replace(atoms_of(), tissue=Tissue(np.ones(32), 0.1))
    with pytest.raises(ValueError, match="wants a b1_map, a b0_map or known ones"):
        match_with_maps(atoms_of(), images)
    with pytest.raises(ValueError, match="no B0 axis: its atoms have off_resonance = 0, but b0_map holds 3 to 7"):
        match_with_maps(on_resonance, images, b0_map=[3.0, 7.0])
    assert match_with_maps(on_resonance, images, b0_map=np.zeros(2)).off_resonance is None
    with pytest.raises(ValueError, match="b0_map must be finite in the mask; got inf"):
        match_with_maps(atoms_of(), images, b0_map=[3.0, np.inf])
    with pytest.raises(ValueError, match=r"b0_map has shape \(3,\), but the images have \(2,\)"):
        match_with_maps(atoms_of(), images, b0_map=np.zeros(3))
    atoms = atoms_of()
    some = np.arange(32) < 17  # of the second B1, one off-resonance alone
    fields = {name: np.asarray(each)[some] for name, each in vars(atoms.tissue).items()}
    part = dataclasses.replace(
        atoms, tissue=Tissue(**fields), fingerprints=atoms.fingerprints[some], norms=atoms.norms[some]
    )
    with pytest.raises(ValueError, match="no atoms of a combination of b1 and off_resonance"):
        match_with_maps(part, images, b1_map=np.ones(2), b0_map=np.full(2, 10.0))


def pools():
    """Atoms of a semisolid pool with fingerprints of no physics, one alone where the pool is empty."""
    axes = {"fraction": [0.0, 0.1, 0.2], "exchange_rate": [10.0, 20.0], "b1": [0.9, 1.1]}
    tissue = pool_grid("semisolid", t1=[1.0], t2=[0.1], **axes)
    rows = np.random.default_rng(0).standard_normal((tissue.size, FRAMES)).astype(np.float32)
    norms = np.linalg.norm(rows, axis=1)
    return Dictionary(
        tissue, rows / norms[:, None], norms, Fisp(np.full(FRAMES, 0.5), 0.01, 0.002, pulse_duration=2e-3)
    )


def test_any_parameter_may_be_known():
    atoms = pools()
    images = atoms.fingerprints.T
    rates = np.asarray(atoms.tissue.exchange_rate)
    found = match_with_maps(atoms, images, known={"exchange_rate": rates + 2}, b1_map=np.asarray(atoms.tissue.b1))
    np.testing.assert_array_equal(found.index, np.arange(atoms.norms.size))
    for name in ("fraction", "exchange_rate", "b1", "t1_b"):
        np.testing.assert_allclose(getattr(found, name), np.broadcast_to(getattr(atoms.tissue, name), rates.shape))
    other = match_with_maps(atoms, images, known={"exchange_rate": 30.0 - rates})
    empty = np.asarray(atoms.tissue.fraction) == 0  # such an atom is one of every exchange rate
    np.testing.assert_array_equal(other.index == np.arange(rates.size), empty)
    one = match_with_maps(atoms, images, known={"exchange_rate": 20.0})
    np.testing.assert_array_equal(one.index == np.arange(rates.size), empty | (rates == 20))


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ({"t2_b": 0.01}, "the map of t2_b is of no use: the atoms have t1, t2, fraction, "),
        ({"fraction": 1.5}, "the map of fraction must be 0 to 1 in the mask; got 1.5"),
        ({"exchange_rate": np.ones(3)}, r"the map of exchange_rate has shape \(3,\), but the images have"),
        ({"t1_b": 0.5}, "the dictionary has no T1b axis: its atoms have t1_b = 0.34, but the map of t1_b holds 0.5"),
    ],
)
def test_maps_that_are_of_no_use(known, words):
    atoms = pools()
    with pytest.raises(ValueError, match=words):
        match_with_maps(atoms, atoms.fingerprints.T, known=known)
