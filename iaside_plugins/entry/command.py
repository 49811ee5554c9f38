"""The command that makes an entry again, from what the entry says."""

from __future__ import annotations

import shlex

from iaside_plugins.budgets import format_budget
from iaside_plugins.entry.schema import Adversarial, Entry
from iaside_plugins.protocol import Protocol


def command(entry: Entry) -> str:
    """Return the command line, or Python for a run inside a host benchmark.

    DIR holds the images, CORRUPTED_DIR a distributed set; the reference of an mCE is the file of
    its entry, named after the model.
    """
    return _evaluate(entry) if entry.benchmark is None else _robustbench(entry)


def _evaluate(entry: Entry) -> str:
    data, corruption = entry.data, entry.corruption
    words = ["iaside", "evaluate", entry.model.spec, "--data", "DIR"]
    if data.n_images < data.n_available:
        words += ["--n-images", str(data.n_images)]
    if entry.spectral.n_images < data.n_images:
        words += ["--n-spectral", str(entry.spectral.n_images)]
    if data.seed:
        words += ["--seed", str(data.seed)]
    words += _protocol(entry)
    if corruption is None:
        words += ["--corruptions", "none"]
    elif corruption.source == "distributed":
        words += ["--corruptions", "CORRUPTED_DIR"]
    if corruption is not None and corruption.mce is not None:
        words += ["--reference", f"{corruption.mce.reference}.json"]
    elif corruption is not None and corruption.error_over_published is not None:
        words += ["--reference", corruption.error_over_published.reference]
    words += _attacks(entry.adversarial, data.n_images)
    if entry.systematic is not None:
        words.append("--systematic")
    if entry.decomposition is not None:
        words += ["--explain", "--n-explain", str(entry.decomposition.n_images)]
    return shlex.join([*words, "--out", "entry.json"])


def _protocol(entry: Entry) -> list[str]:
    """Return the fields that differ from those of the default protocol."""
    plain = Protocol().to_dict()
    fields = entry.protocol.model_dump(exclude={"protocol_id", "forwards", "seed"})
    other = [f"{name}={value}" for name, value in fields.items() if plain.get(name) != value]
    return ["--protocol", ",".join(other)] if other else []


def _attacks(group: Adversarial | None, n_images: int) -> list[str]:
    if group is None:
        return ["--attacks", "none"]
    names = ",".join(dict.fromkeys(attack.name for attack in group.attacks))
    words = ["--attacks", names]
    for norm, option in (("Linf", "--epsilons"), ("L2", "--epsilons-l2")):
        budgets = sorted({attack.epsilon for attack in group.attacks if attack.norm == norm})
        if budgets:
            words += [option, ",".join(map(format_budget, budgets))]
    steps = {attack.steps for attack in group.attacks if attack.steps is not None}
    for count in sorted(steps)[-1:]:
        words += ["--attack-steps", str(count)]
    if group.n_images < n_images:
        words += ["--n-attack", str(group.n_images)]
    if group.masking is not None and group.masking.temperature is not None:
        words.append("--check-temperatures")
    return words


def _robustbench(entry: Entry) -> str:
    assert entry.benchmark is not None  # the caller chose
    group = entry.adversarial
    budgets = sorted({a.epsilon for a in group.attacks}) if group is not None else []
    eps = f", eps=[{', '.join(map(format_budget, budgets))}]" if budgets else ""
    made = entry.corruption is not None and entry.corruption.source == "generated"
    corrupted = ', corruptions_data_dir="generate"' if made else ""
    return (
        "from iaside_plugins.adapters.robustbench_adapter import evaluate\n"
        f"evaluate({entry.model.spec!r}, dataset={entry.data.name!r}, "
        f"threat_model={entry.benchmark.threat_model!r}{eps}, "
        f'n_examples={entry.data.n_images}, data_dir="DIR"{corrupted}, '
        'entry_path="entry.json")'
    )
