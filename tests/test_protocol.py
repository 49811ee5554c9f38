"""Protocol: refused choices, the reference flags, and an id that stands for the numbers."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace

import pytest

from iaside_plugins import InputError, Protocol

# Published entries carry these ids. One that changes here means that the same protocol would be
# taken for another: raise METHOD_VERSION only if the numbers changed too, and say so in the log.
KNOWN_IDS = {
    "plain": (Protocol(), "m8-chebyshev-zero-exact-1254609b"),
    "reference": (Protocol.reference(), "m8-boxes-zero-exact-532585e3"),
    "euclidean": (Protocol(4, "euclidean"), "m4-euclidean-zero-exact-b4112f8d"),
    "gaussian": (Protocol(absence="gaussian", seed=3), "m8-chebyshev-gaussian-exact-bc9b390b"),
    "permutation": (
        Protocol(16, estimator="permutation", n_permutations=4),
        "m16-chebyshev-zero-permutation-651ad177",
    ),
    "regression": (
        Protocol(16, estimator="regression", n_coalitions=512),
        "m16-chebyshev-zero-regression-b9df0e35",
    ),
}


@pytest.mark.parametrize("name", KNOWN_IDS)
def test_known_ids_do_not_change(name):
    protocol, known = KNOWN_IDS[name]
    assert protocol.protocol_id == known


SAMPLED = Protocol(estimator="permutation")
REGRESSED = Protocol(estimator="regression")
NOISY = Protocol(absence="gaussian")
SCRIPT = Protocol.reference()
SCRIPT_NOISE = Protocol.reference(absence="gaussian_bins")

USED = [
    (Protocol(), {"n_bands": 7}),
    (Protocol(), {"band_norm": "euclidean"}),
    (Protocol(), {"absence": "gaussian"}),
    (Protocol(), {"absence": "replacement"}),
    (Protocol(), {"range_handling": "clip"}),
    (Protocol(), {"range_handling": "rescale"}),
    (Protocol(), {"estimator": "permutation"}),
    (Protocol(), {"beta": 0.5}),
    (Protocol(), {"temperature": 2.0}),
    (SAMPLED, {"n_permutations": 2}),
    (SAMPLED, {"seed": 1}),
    (SAMPLED, {"estimator": "regression"}),
    (REGRESSED, {"n_coalitions": 64}),
    (REGRESSED, {"seed": 2}),
    (NOISY, {"seed": 1}),
    (NOISY, {"absence_std": 0.25}),
    (NOISY, {"black_empty": True}),
    (Protocol(absence="replacement"), {"seed": 1}),
    (SCRIPT, {"image_batch": 20}),
    (SCRIPT, {"shuffled": True}),
    (SCRIPT, {"band_norm": "chebyshev"}),
    (SCRIPT, {"absence": "batch_replacement"}),
    (replace(SCRIPT, shuffled=True), {"seed": 1}),
    (SCRIPT_NOISE, {"seed": 1}),
    (SCRIPT_NOISE, {"black_empty": False}),
]
UNUSED = [
    (Protocol(), {"seed": 1}),
    (Protocol(), {"n_permutations": 5}),
    (Protocol(), {"absence_std": 0.1}),
    (Protocol(), {"image_batch": 3}),
    (Protocol(), {"black_empty": True}),
    (Protocol(range_handling="clip"), {"black_empty": True}),
    (NOISY, {"n_permutations": 5}),
    (Protocol(), {"n_coalitions": 64}),
    (SAMPLED, {"n_coalitions": 64}),
    (REGRESSED, {"n_permutations": 5}),
    (SAMPLED, {"absence_std": 0.1}),
    (SCRIPT, {"seed": 1}),
    (SCRIPT, {"absence_std": 0.1}),
    (SCRIPT, {"black_empty": False}),  # with the zero absence the empty coalition is black
]


@pytest.mark.parametrize(("protocol", "change"), USED)
def test_the_id_changes_with_every_used_field(protocol, change):
    assert replace(protocol, **change).protocol_id != protocol.protocol_id


@pytest.mark.parametrize(("protocol", "change"), UNUSED)
def test_the_id_does_not_change_with_unused_fields(protocol, change):
    assert replace(protocol, **change).protocol_id == protocol.protocol_id


def test_whole_numbers_given_as_integers_are_the_same_protocol():
    assert Protocol(temperature=1).protocol_id == Protocol(temperature=1.0).protocol_id
    noisy = Protocol(absence="gaussian", absence_std=1)
    assert noisy.protocol_id == replace(noisy, absence_std=1.0).protocol_id


def test_all_ids_seen_here_are_different():
    ids = [replace(protocol, **change).protocol_id for protocol, change in USED]
    assert len(set(ids)) == len(ids)


def test_reference_is_the_released_script():
    reference = Protocol.reference(n_bands=6)
    assert reference == Protocol(
        n_bands=6,
        band_norm="boxes",
        absence="zero",
        range_handling="batch_modulus",
        estimator="exact",
        black_empty=True,
        image_batch=10,
        shuffled=False,
    )
    assert reference.is_script
    assert not Protocol().is_script


@pytest.mark.parametrize(
    "flags",
    [
        {"band_norm": "chebyshev"},
        {"band_norm": "euclidean"},
        {"absence": "gaussian_bins"},
        {"absence": "batch_replacement"},
        {"shuffled": True},
        {"image_batch": 32},
        {"black_empty": False},
        {"temperature": 2.0},
        {"seed": 4},
    ],
)
def test_reference_takes_each_flag_alone(flags):
    changed = Protocol.reference(8, **flags)
    assert changed == replace(Protocol.reference(8), **flags)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n_bands": 1}, "n_bands must be an integer of at least 2, got 1"),
        ({"n_bands": 8.0}, "n_bands must be an integer of at least 2, got 8.0"),
        ({"n_bands": True}, "got True"),
        ({"n_bands": 13}, r"n_bands=13 would cost 2\*\*13 = 8,192 forward passes .*<= 12 or"),
        ({"n_bands": 33, "estimator": "permutation"}, "at most 32, got 33"),
        ({"band_norm": "square"}, "chebyshev, euclidean, boxes; got 'square'"),
        ({"absence": "blur"}, "absence must be one of zero, gaussian, .*; got 'blur'"),
        ({"range_handling": "wrap"}, "range_handling must be one of none, .*; got 'wrap'"),
        ({"estimator": "kernel"}, "permutation, regression, gaussian_process; got 'kernel'"),
        ({"n_permutations": 0}, "n_permutations must be .* at least 1, got 0"),
        ({"n_coalitions": 256.0}, "n_coalitions must be .* at least 4, got 256.0"),
        ({"image_batch": 0}, "image_batch must be .* at least 1, got 0"),
        ({"seed": -1}, "seed must be .* at least 0, got -1"),
        ({"seed": 0.5}, "seed must be .* got 0.5"),
        ({"beta": 1.0}, "beta must .* got 1.0"),
        ({"beta": 0}, "beta must .* got 0"),
        ({"beta": float("nan")}, "beta must .* got nan"),
        ({"beta": "high"}, "beta must .* 'high'"),
        ({"temperature": 0.0}, "temperature .*0.0"),
        ({"temperature": -1.0}, "temperature .*-1.0"),
        ({"temperature": float("nan")}, "temperature .*nan"),
        ({"temperature": float("inf")}, "temperature .*inf"),
        ({"temperature": "1"}, "temperature .*'1'"),
        ({"absence_std": 0.0}, "absence_std .*0.0"),
        ({"band_norm": "boxes"}, "need range_handling='batch_modulus'"),
        ({"absence": "gaussian_bins"}, "need range_handling='batch_modulus'"),
        ({"absence": "batch_replacement"}, "need range_handling='batch_modulus'"),
        ({"shuffled": True}, "shuffled=True needs range_handling='batch_modulus'"),
        ({"range_handling": "batch_modulus", "absence": "gaussian"}, "not 'gaussian'"),
        ({"range_handling": "batch_modulus", "absence": "replacement"}, "not 'replacement'"),
        (
            {"range_handling": "batch_modulus", "estimator": "permutation"},
            "needs estimator='exact'",
        ),
    ],
)
def test_bad_choices_are_refused(fields, message):
    with pytest.raises(InputError, match=message):
        Protocol(**fields)


def test_the_greatest_sizes_are_accepted():
    assert Protocol(n_bands=12).n_bands == 12
    assert Protocol(n_bands=32, estimator="permutation").n_bands == 32


@pytest.mark.parametrize("protocol", [value[0] for value in KNOWN_IDS.values()], ids=KNOWN_IDS)
def test_dictionaries_of_json_values_and_back(protocol):
    data = json.loads(json.dumps(protocol.to_dict(), allow_nan=False))
    assert data["protocol_id"] == protocol.protocol_id
    assert Protocol.from_dict(data) == protocol


def test_from_dict_refuses_what_does_not_fit():
    data = Protocol().to_dict()
    with pytest.raises(InputError, match="unknown protocol field 'bands'"):
        Protocol.from_dict({**data, "bands": 8})
    with pytest.raises(InputError, match="m8-chebyshev-zero-exact-1254609b' does not belong"):
        Protocol.from_dict({**data, "beta": 0.5})
    del data["protocol_id"]
    assert Protocol.from_dict(data) == Protocol()


def test_a_protocol_is_fixed():
    with pytest.raises(FrozenInstanceError):
        Protocol().seed = 1


# ---- how passes are made, and which estimator ----------------------------------------------
def test_how_passes_are_made_is_no_part_of_the_protocol():
    fast = Protocol(4, forwards="fast")
    assert fast.same(Protocol(4))
    assert fast.protocol_id == Protocol(4).protocol_id
    assert "forwards" not in fast.used()
    assert fast.run_choices() == {**Protocol(4).run_choices(), "forwards": "fast"}


def test_ids_of_earlier_files_which_named_the_forwards_are_read():
    earlier = "m8-chebyshev-zero-permutation-6b4c7d3d"
    fields = {"estimator": "permutation", "forwards": "fast"}
    assert Protocol.from_dict({**fields, "protocol_id": earlier}) == Protocol(**fields)
    with pytest.raises(InputError, match="does not belong"):  # to plain ones
        Protocol.from_dict({"estimator": "permutation", "protocol_id": earlier})


@pytest.mark.parametrize(
    ("protocol", "n", "pairs"),
    [
        (Protocol(), 299, None),
        (Protocol(), 300, 8),
        (Protocol(12), 10_000, 12),
        (Protocol(5), 10_000, None),  # 21 passes where all coalitions are 32
        (Protocol(6), 10_000, 6),
        (Protocol.reference(), 10_000, None),
        (Protocol(16, estimator="regression"), 10_000, None),
        (Protocol(estimator="permutation"), 10_000, None),
    ],
)
def test_chains_in_place_of_all_coalitions_where_images_abound(protocol, n, pairs):
    chosen = protocol.for_images(n)
    if pairs is None:
        assert chosen is protocol
    else:
        assert chosen == replace(protocol, estimator="permutation", n_permutations=pairs)
