"""Groups of options that commands share: one parameter of a command, several of its command line.

A group is a dataclass whose fields are annotated as typer has it. `with_groups` puts the fields in
the place of the group, under a heading of their own in `--help`.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, get_args, get_type_hints

import typer

from iaside_plugins.adapters.foolbox_adapter import ATTACKS, AttackSpec, parse_attacks
from iaside_plugins.adapters.foolbox_adapter.attacks import CATALOGUE, MinimalAttack
from iaside_plugins.adapters.imagenet.corruption_sets import GenerationOptions
from iaside_plugins.adapters.models.load import Classifier
from iaside_plugins.adapters.ray_adapter import workers_on_ray
from iaside_plugins.budgets import parse_budgets
from iaside_plugins.cli import options as opt
from iaside_plugins.cli.outputs import Outputs
from iaside_plugins.cli.values import check_needs, pick_batch_size, pick_channels, pick_protocol
from iaside_plugins.devices import pick_devices
from iaside_plugins.display.cost import Cost
from iaside_plugins.parallel.processes import Devices
from iaside_plugins.protocol import Protocol
from iaside_plugins.storage.files import check_writable
from iaside_plugins.workflows.labels import with_words
from iaside_plugins.workflows.source import DataSource, open_model

MANY_PASSES = 5_000  # from here on, trying faster ones saves more than it takes: up to 1,000


def with_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command that takes the fields of its groups instead of the groups."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {
        n: kind for n, kind in hints.items() if dataclasses.is_dataclass(kind)
    }
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        if parameter.name in groups:
            parameters += _fields(groups[parameter.name])
        else:
            plain = parameter.replace(
                annotation=hints[parameter.name], kind=inspect.Parameter.KEYWORD_ONLY
            )
            parameters.append(plain)

    @functools.wraps(command)
    def run(**given: Any) -> None:
        made = {
            name: kind(**{field.name: given.pop(field.name) for field in dataclasses.fields(kind)})
            for name, kind in groups.items()
        }
        command(**made, **given)

    called: Any = run
    called.__signature__ = inspect.Signature(parameters)
    called.__annotations__ = {one.name: one.annotation for one in parameters}
    return run


def _fields(group: Any) -> Iterator[inspect.Parameter]:
    """Yield the parameters of a group."""
    hints = get_type_hints(group, include_extras=True)
    for field in dataclasses.fields(group):
        kind, option = get_args(hints[field.name])
        option = copy.copy(option)
        option.rich_help_panel = group.TITLE
        missing = field.default is dataclasses.MISSING
        if not missing and field.default is not None and isinstance(option.show_default, str):
            option.show_default = True  # the group has a default of its own
        yield inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if missing else field.default,
            annotation=Annotated[kind, option],
        )


@dataclass(frozen=True)
class ModelOptions:
    """How the model is built, and how images become its input."""

    TITLE: ClassVar[str] = "Model"

    weights: opt.Weights = None
    name: opt.Name = None
    resize: opt.Resize = None
    crop: opt.Crop = None
    interpolation: opt.Interpolation = None
    mean: opt.Mean = None
    std: opt.Std = None

    @property
    def shape(self) -> dict[str, Any]:
        """How images become the input, as `load_model` takes it."""
        return {"resize": self.resize, "crop": self.crop, "interpolation": self.interpolation}

    def open(self, spec: str, device: str, **options: Any) -> Classifier:
        """Return the model of a specification, see `open_model`."""
        given = {"weights": self.weights, "name": self.name, **self.shape, **options}
        given |= {"mean": pick_channels("mean", self.mean), "std": pick_channels("std", self.std)}
        return open_model(spec, device=device, **given)


@dataclass(frozen=True)
class ImageOptions:
    """Which images, with which labels."""

    TITLE: ClassVar[str] = "Images"

    data: opt.DataDir
    labels: opt.Labels = "auto"
    classes: opt.Classes = None
    n_images: opt.NImages = None
    restrict_classes: opt.RestrictClasses = False
    seed: opt.Seed = 0
    workers: opt.Workers = 0

    def source(self, batch_size: int = 64, **more: Any) -> DataSource:
        """Return where the images come from, and which of them are taken."""
        return DataSource(
            self.data,
            self.labels,
            self.classes,
            self.n_images,
            self.seed,
            self.workers,
            batch_size,
            restrict_classes=self.restrict_classes,
            **more,
        )

    def said(self, there: int) -> str:
        """Return a line that says how many images there are, where more are asked for."""
        if self.n_images is None or self.n_images <= there:
            return ""
        return f"\nthere are {there} images: --n-images {self.n_images} takes all of them"

    def with_words(self, found: dict[str, Any], text: str) -> tuple[dict[str, Any], str]:
        """Return a result's JSON and text, which say so where labels are predictions."""
        return with_words(self.labels, found, text)


@dataclass(frozen=True)
class GenerationChoices:
    """How corruptions are made."""

    TITLE: ClassVar[str] = "Corruptions"

    jpeg: opt.Jpeg = None
    frost: opt.Frost = None
    cache: opt.Cache = None

    @property
    def options(self) -> GenerationOptions:
        """The same, as the library takes it."""
        return GenerationOptions(self.jpeg, self.frost, self.cache)

    def check(self, made: bool, **others: Any) -> None:
        """Raise InputError for options of how corruptions are made where none are."""
        needed = "corruptions that are made here: --corruptions generate"
        check_needs(needed, made, jpeg=self.jpeg, frost=self.frost, cache=self.cache, **others)


@dataclass(frozen=True)
class AttackOptions:
    """Attacks, and their budgets."""

    TITLE: ClassVar[str] = "Attacks"

    attacks: Annotated[str, typer.Option(help=f"{', '.join(ATTACKS)}; none")] = "none"
    epsilons: opt.Epsilons = None
    epsilons_l2: opt.EpsilonsL2 = None
    attack_steps: opt.AttackSteps = None

    def check(self, **others: Any) -> None:
        """Raise InputError for options of attacks where there are none."""
        check_needs(
            "--attacks",
            self.attacks != "none",
            epsilons=self.epsilons,
            epsilons_l2=self.epsilons_l2,
            attack_steps=self.attack_steps,
            **others,
        )

    def specs(self) -> list[AttackSpec]:
        """Return the attacks with their budgets."""
        names = "" if self.attacks == "none" else self.attacks
        budgets = parse_budgets(self.epsilons), parse_budgets(self.epsilons_l2)
        specs = list(parse_attacks(names, *budgets, self.attack_steps))
        self.check_taken(spec.name for spec in specs)
        return specs

    def check_taken(self, names: Iterable[str]) -> None:
        """Raise InputError for budgets or steps that no attack of these names takes."""
        attacks = [CATALOGUE[name] for name in names]
        norms = {one.norm for one in attacks if not isinstance(one, MinimalAttack)}
        check_needs("an Linf attack of given budgets", "Linf" in norms, epsilons=self.epsilons)
        check_needs("an L2 attack of given budgets", "L2" in norms, epsilons_l2=self.epsilons_l2)
        iterated = any(not isinstance(one, AttackSpec) or one.steps for one in attacks)
        check_needs("an attack of several steps", iterated, attack_steps=self.attack_steps)


@dataclass(frozen=True)
class ProtocolOptions:
    """Bands, and how they are valued."""

    TITLE: ClassVar[str] = "Bands"

    n_bands: opt.NBands = None
    protocol: opt.ProtocolText = None

    def pick(self, seed: int, default: str | None = None, forwards: str | None = None) -> Protocol:
        """Return the protocol, see `pick_protocol`."""
        return pick_protocol(self.protocol or default, self.n_bands, seed, forwards)


@dataclass(frozen=True)
class RunOptions:
    """Where the model runs, and where finished work is kept."""

    TITLE: ClassVar[str] = "Run"

    device: opt.Device = "auto"
    resume: opt.Resume = None
    dry_run: opt.DryRun = False

    def __post_init__(self) -> None:
        """Check the folder before any work."""
        if self.resume is not None:
            check_writable(self.resume, folder=True)


@dataclass(frozen=True)
class BatchOptions(RunOptions):
    """The same with a fixed number of images in one forward pass."""

    batch_size: opt.BatchSize = 64


@dataclass(frozen=True)
class PassOptions(RunOptions):
    """The same with forward passes as large as memory allows, in a precision of choice."""

    batch_size: opt.AutoBatchSize = "auto"
    precision: opt.Precision = "float32"

    def rows(self) -> tuple[int | str, int]:
        """Return the rows of one forward pass, or "auto", and the images read together."""
        return pick_batch_size(self.batch_size)


@dataclass(frozen=True)
class FastOptions(PassOptions):
    """The same on several devices or a cluster, with quicker forward passes."""

    device: opt.Devices = "auto"
    forwards: opt.Forwards = "auto"
    ray: opt.RayAddress = None

    @property
    def several(self) -> str | None:
        """The devices of this machine, if they are several."""
        return None if self.ray is not None else pick_devices(self.device)[1]

    @property
    def own_device(self) -> str:
        """The device of the model in this process, of which workers have copies."""
        return self.device if self.ray is None else "cpu"

    def workers(self) -> AbstractContextManager[Devices]:
        """Return several devices, or the workers of a Ray cluster, as the device of a run."""
        if self.ray is None:
            return nullcontext(self.several)
        return workers_on_ray(self.ray, self.device)

    def settled(self, protocol: Protocol, *costs: Cost) -> tuple[Protocol, list[Cost]]:
        """Return the protocol of a run at these costs, plain if passes are few, and its costs."""
        if self.forwards == "auto" and sum(cost.passes for cost in costs) < MANY_PASSES:
            protocol = dataclasses.replace(protocol, forwards="plain")
        return protocol, [dataclasses.replace(c, forwards=protocol.forwards) for c in costs]


@dataclass(frozen=True)
class OutputOptions:
    """What a command writes."""

    TITLE: ClassVar[str] = "Output"

    json_file: opt.JsonFile = None
    plot: opt.PlotFile = None
    quiet: opt.Quiet = False

    def open(self, *files: Path | None) -> Outputs:
        """Return where to write, all paths checked.

        Args:
            files: Other files that the command will write.
        """
        return Outputs(self.json_file, self.plot, self.quiet, files)


@dataclass(frozen=True)
class SavedOutputOptions(OutputOptions):
    """The same with a result that can be saved."""

    save: opt.SaveFile = None

    def open(self, *files: Path | None) -> Outputs:
        """Return where to write, all paths checked."""
        return super().open(self.save, *files)
