"""Which variants a design holds, and which of them are neighbours."""

from __future__ import annotations

import pytest

from iaside_plugins.errors import InputError
from iaside_plugins.protocol import Protocol
from iaside_plugins.sensitivity.design import (
    AXES,
    FITTED,
    LEVELS,
    known_level,
    make_design,
    neighbours,
)

BASE = Protocol(n_bands=6)


def test_all_choices_are_crossed():
    design = make_design(BASE, LEVELS)
    variants = design.variants()
    assert len(variants) == 3 * 3 * 2 * 2 * 3
    assert len({variant.name for variant in variants}) == len(variants)
    assert design.base_variant in variants
    assert variants[0] == design.base_variant


def test_where_they_are_not_crossed_one_changes_at_a_time():
    design = make_design(Protocol(), {**LEVELS, "n_bands": (6, 8)}, crossed=[6])
    variants = design.variants()
    tables = {n: [v for v in variants if v.protocol.n_bands == n] for n in (6, 8)}
    assert len(tables[6]) == 18 * 6
    assert len(tables[8]) == (1 + 2 + 2 + 1) * 6
    for variant in tables[8]:
        changed = [
            getattr(variant.protocol, axis) != getattr(design.base, axis)
            for axis in ("range_handling", "absence", "band_norm")
        ]
        assert sum(changed) <= 1
    assert design.base_variant in tables[8]


def test_a_fitted_variant_takes_each_models_temperature():
    design = make_design(BASE, {"temperature": [FITTED]})
    plain, fitted = design.variants()
    assert not plain.fitted
    assert plain.for_temperature(2.5) == BASE
    assert fitted.for_temperature(2.5) == Protocol(n_bands=6, temperature=2.5)
    assert fitted.levels[AXES.index("temperature")] == FITTED
    assert plain.levels[AXES.index("temperature")] == 1.0


def test_the_bases_own_level_is_always_there():
    design = make_design(Protocol(beta=0.5), {"beta": [0.75], "range_handling": ["clip"]})
    assert design.levels["beta"] == (0.5, 0.75)
    assert design.levels["range_handling"] == ("none", "clip")
    assert design.levels["absence"] == ("zero",)


def test_neighbours_differ_on_one_axis():
    variants = make_design(BASE, {"beta": [0.6], "range_handling": ["clip"]}).variants()
    found = neighbours(variants)
    assert [len(one) for one in found] == [2] * 4
    for k, others in enumerate(found):
        for j in others:
            changed = [a != b for a, b in zip(variants[k].levels, variants[j].levels, strict=True)]
            assert sum(changed) == 1


@pytest.mark.parametrize(
    ("base", "levels", "crossed", "fragment"),
    [
        (BASE, {"colour": ["red"]}, None, "unknown axis 'colour'"),
        (BASE, {"beta": [1.5]}, None, "beta"),
        (BASE, {"n_bands": [40]}, None, "n_bands"),
        (BASE, {"n_bands": [8]}, [4], "crossed at 4 bands"),
        (BASE, {"range_handling": ["batch_modulus"]}, None, "script"),
        (BASE, {"band_norm": ["boxes"]}, None, "batch_modulus"),
        (Protocol(estimator="permutation"), {}, None, "exact"),
        (Protocol.reference(), {}, None, "script"),
    ],
)
def test_what_cannot_be_compared_is_refused(base, levels, crossed, fragment):
    with pytest.raises(InputError, match=fragment):
        make_design(base, levels, crossed)


def test_levels_from_words():
    assert known_level("n_bands", "8") == 8
    assert known_level("temperature", "1") == 1.0
    assert known_level("temperature", "fitted") == FITTED
    assert known_level("absence", "gaussian") == "gaussian"
    for axis, word in (("n_bands", "many"), ("beta", "fitted"), ("absence", "noise")):
        with pytest.raises(InputError, match=word):
            known_level(axis, word)
