"""The entry as strict pydantic models: names, types, units and ranges of every field.

Numbers are raw floats and proportions lie in [0, 1]. `parse` reads JSON into these models and
checks lengths; `checks` recomputes what an entry claims.
"""

from __future__ import annotations

from typing import Annotated, Literal

from iaside_plugins.corruptions.apply import CORRUPTIONS
from iaside_plugins.corruptions.error_rates import CORRUPTIONS_3DCC
from iaside_plugins.errors import MissingExtraError

try:
    from pydantic import BaseModel, BeforeValidator, ConfigDict
    from pydantic import Field as Field
    from pydantic import ValidationError as ValidationError
except ImportError as error:
    raise MissingExtraError.of("the leaderboard needs pydantic", "leaderboard") from error

LARGEST = 2**53  # whole numbers that every reader of JSON holds exactly
GREATEST = 1e6  # of any number: far above what is measured, and sums of squares stay finite
MANY = 1000  # attacks, conditions and the like: a list of millions is no entry

Text = Annotated[str, Field(min_length=1, max_length=200)]
LongText = Annotated[str, Field(min_length=1, max_length=2000)]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$", max_length=200)]
Base64 = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]*={0,2}$", max_length=20_000)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, le=LARGEST)]
Positive = Annotated[int, Field(ge=1, le=LARGEST)]
Share = Annotated[float, Field(ge=0, le=1)]
Number = Annotated[float, Field(ge=-GREATEST, le=GREATEST)]
Size = Annotated[float, Field(ge=0, le=GREATEST)]
AboveZero = Annotated[float, Field(gt=0, le=GREATEST)]
Nats = Annotated[float, Field(ge=-GREATEST, le=0)]  # a log-likelihood
Bounds = tuple[Number | None, Number | None]  # null where one image leaves it undefined
ShareBounds = tuple[Share | None, Share | None]
OfBands = Field(max_length=32)
OfCoalitions = Field(max_length=2**12)
Some = Field(max_length=MANY)
OneOrMore = Field(min_length=1, max_length=MANY)


class Group(BaseModel):
    """What all groups share: exact types, no unknown fields, finite numbers, immutable."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class Proportion(Group):
    """k of n images, with Wilson's 95 % interval; `images` says which, see `entry.per_image`."""

    value: Share
    interval: tuple[Share, Share]
    n: Positive
    images: Base64 | None = None

    @property
    def count(self) -> int:
        """The k of n images."""
        return round(self.value * self.n)


class Chance(Group):
    """Clean accuracy against guessing, 1 of n_classes, by an exact one-sided binomial test."""

    level: Share
    p: Share
    above: bool


class Mean(Group):
    """Mean of per-image values in [0, 1], with a 95 % interval that may leave that range."""

    value: Share
    interval: Bounds
    n: Positive


class MeanError(Mean):
    """Mean error over corruptions and severities; n is images."""

    n_corruptions: Positive


class Preprocessing(Group):
    """How an image becomes the model's input; lengths in pixels."""

    resize: Positive | None
    crop: Positive | None
    interpolation: Text
    mean: Annotated[tuple[Number, ...], OneOrMore]
    std: Annotated[tuple[AboveZero, ...], OneOrMore]


class ModelGroup(Group):
    """Which network, and which weights."""

    spec: Text
    name: Text
    source: Text
    architecture: Text
    n_parameters: Count
    n_classes: Positive | None
    dataset: Text | None
    training: Text | None
    licence: Text | None
    weights: Text
    weights_sha256: Sha256
    preprocessing: Preprocessing


class DataGroup(Group):
    """Which images."""

    name: FileName
    n_images: Positive
    n_available: Positive
    n_unreadable: Count
    image_ids_sha256: Sha256
    seed: Count
    note: LongText | None


class ProtocolGroup(Group):
    """The fields of `iaside_plugins.Protocol`, which checks their values, and its id."""

    n_bands: Annotated[int, Field(ge=2, le=32)]
    band_norm: str
    absence: str
    range_handling: str
    estimator: str
    n_permutations: Count
    n_coalitions: Count = 256  # optional: entries may be older than the regression estimator
    beta: Number
    temperature: Number
    seed: Count
    absence_std: Number
    black_empty: bool
    image_batch: Count
    shuffled: bool
    forwards: str = "plain"
    protocol_id: FileName


class Spectral(Group):
    """Spectral importance: Shapley values in nats, the distribution and the scores."""

    n_images: Positive
    image_ids_sha256: Sha256
    precision: Literal["float32", "float64", "bfloat16", "float16"]
    forwards: Annotated[tuple[FileName, ...], Field(max_length=8)] = ()
    score_intervals: Literal["jackknife", "jackknife-and-ties"] = "jackknife"
    n_forward: Count
    image_size: tuple[Positive, Positive]
    band_edges: Annotated[tuple[Size, ...], Field(max_length=33)]
    value_table: Annotated[tuple[Nats, ...], OfCoalitions] | None
    ends: tuple[Nats, Nats]
    shapley_values: Annotated[tuple[Number, ...], OfBands]
    shapley_se: Annotated[tuple[Size | None, ...], OfBands]
    distribution: Annotated[tuple[Share, ...], OfBands]
    distribution_interval: Annotated[tuple[ShareBounds, ...], OfBands]
    score: Size
    score_interval: Bounds
    score_bias: Number | None
    signed_score: Number
    signed_score_interval: Bounds
    signed_score_bias: Number | None
    tied_bands: Annotated[tuple[Count, ...], OneOrMore]
    efficiency_residual: Number
    clean_accuracy: Proportion


class Condition(Group):
    """One corruption at one severity."""

    corruption: Text
    severity: Annotated[int, Field(ge=1, le=5)]
    error: Proportion
    probability_change: Mean


class Normalised(Group):
    """A corruption error as a fraction of a reference's (1.0), which may exceed 1."""

    value: Size
    reference: Text


class MeanCorruptionError(Normalised):
    """mCE: normalised by the reference model's errors on the same images, severities 1 to 5."""

    reference_errors: Annotated[
        dict[Text, tuple[Share, Share, Share, Share, Share]], Field(max_length=15)
    ]


class Corruption(Group):
    """Errors under the 15 corruptions, or the 12 of ImageNet-3DCC."""

    source: Literal["generated", "distributed"]
    size: Positive | None
    constants: Literal["224", "32"] | None
    jpeg: bool
    seed: Count
    n_images: Positive
    uncorrupted_accuracy: Proportion
    conditions: Annotated[tuple[Condition, ...], OneOrMore]
    missing: Annotated[tuple[Text, ...], Some]
    unnormalised_mean_error: MeanError
    mce: MeanCorruptionError | None
    error_over_published: Normalised | None

    @property
    def errors(self) -> dict[str, dict[int, float]]:
        """Error rates by corruption and severity."""
        errors: dict[str, dict[int, float]] = {}
        for condition in self.conditions:
            errors.setdefault(condition.corruption, {})[condition.severity] = condition.error.value
        return errors

    @property
    def names(self) -> tuple[str, ...]:
        """The corruptions of an mCE: the 12 of ImageNet-3DCC where one of them is, or the 15."""
        present = {condition.corruption for condition in self.conditions}
        return CORRUPTIONS_3DCC if present & set(CORRUPTIONS_3DCC) else CORRUPTIONS


class Attack(Group):
    """One attack at one budget (pixel units of [0, 1] images)."""

    name: FileName
    norm: Literal["Linf", "L2"]
    steps: Positive | None
    rel_stepsize: AboveZero | None
    random_start: bool
    restarts: Positive = 1  # older entries have none
    epsilon: Size
    accuracy: Proportion
    probability_change: Mean


class WorstCase(Group):
    """Images that survive every attack of one norm up to this budget."""

    norm: Literal["Linf", "L2"]
    epsilon: Size
    attacks: Annotated[tuple[FileName, ...], OneOrMore]
    accuracy: Proportion


class Weaker(Group):
    """An attack of many steps that leaves more images than a single step of the same budget."""

    attack: FileName
    single: FileName
    norm: Literal["Linf", "L2"]
    epsilon: Size
    n_missed: Positive


class Apart(Group):
    """Accuracy under an attack minus that under another library's at the same budget."""

    attack: FileName
    other: FileName
    norm: Literal["Linf", "L2"]
    epsilon: Size
    difference: Annotated[float, Field(ge=-1, le=1)]


class TemperatureCase(Group):
    """Images that withstand an attack, and those that do at every temperature too."""

    epsilon: Size
    n_robust: Count
    n_left: Count


class TemperatureCheck(Group):
    """An attack on the first images, through logits that are divided by temperatures."""

    attack: FileName
    norm: Literal["Linf", "L2"]
    n_images: Positive
    temperatures: Annotated[tuple[AboveZero, ...], OneOrMore]
    cases: Annotated[tuple[TemperatureCase, ...], OneOrMore]


class Masking(Group):
    """What attacks by gradients saw on the images that are classified rightly."""

    n_images: Count
    n_zero: Count
    n_non_finite: Count
    n_varying: Count
    weaker: Annotated[tuple[Weaker, ...], Some]
    apart: Annotated[tuple[Apart, ...], Some] = ()
    temperature: TemperatureCheck | None = None


class Adversarial(Group):
    """Accuracy under attack."""

    n_images: Positive
    seed: Count
    batch_size: Positive
    attacks: Annotated[tuple[Attack, ...], OneOrMore]
    worst_case: Annotated[tuple[WorstCase, ...], Some]
    masking: Masking | None = None  # None in entries that are older than the check


class Difference(Group):
    """A paired difference of two rates of the same n images, with its 95 % interval."""

    value: Annotated[float, Field(ge=-1, le=1)]
    interval: Bounds
    n: Positive


class OtherReading(Group):
    """The same files read by another decoder or resize: what changes against the model's own."""

    condition: Text
    error: Proportion
    n_lost: Count
    n_gained: Count
    added: Difference
    probability_change: Mean
    changed: Proportion


class Systematic(Group):
    """Systematic noise: accuracy where the same files are decoded and resized otherwise."""

    own: Text
    n_images: Positive
    own_accuracy: Proportion
    conditions: Annotated[tuple[OtherReading, ...], OneOrMore]
    mean_error: Mean
    mean_added: Difference
    worst: Text
    left_out: Annotated[tuple[LongText, ...], Some]


class Split(Group):
    """An error split over bands: ``perturbed = clean + sum(bands)``; shares of 1."""

    clean: Share
    bands: Annotated[tuple[Number, ...], OfBands]
    bands_interval: Annotated[tuple[tuple[Number, Number], ...], OfBands]
    perturbed: Share


class SplitCondition(Split):
    """The split of one corruption at a severity, or of an attack at a budget."""

    condition: Text
    level: Size | None


class Decomposition(Group):
    """Errors under corruption and attack, split over the bands that were perturbed."""

    protocol: ProtocolGroup
    n_images: Positive
    image_ids_sha256: Sha256
    n_forward: Count
    efficiency_residual: Number
    mean: Split
    conditions: Annotated[tuple[SplitCondition, ...], OneOrMore]


class Profile(Spectral):
    """Spectral importance under another condition than clean, of the same model and protocol."""

    condition: Text


class AfterAttack(Group):
    """Accuracy once an attack of several, run one after another, has been through (n as robust)."""

    epsilon: Size
    attack: FileName
    accuracy: Share


class Benchmark(Group):
    """How an entry was made inside another benchmark, and what only that has."""

    host: Literal["robustbench"]
    host_version: Text | None
    threat_model: Literal["Linf", "L2", "corruptions", "corruptions_3d"]
    selection: Text
    clean_preprocessing: Text
    corrupted_preprocessing: Text | None
    note: LongText | None
    after_attack: Annotated[tuple[AfterAttack, ...], Some]
    profiles: Annotated[tuple[Profile, ...], Some]


class Provenance(Group):
    """What computed the numbers, and when (UTC)."""

    iaside_plugins: Text
    git_commit: Annotated[str, Field(pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})$")] | None
    git_dirty: bool | None
    date: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]
    python: Text
    versions: Annotated[dict[Text, Text], Some]
    device: Text
    machine: Text


class Supersedes(Group):
    """The entry that this one replaces, known by its file's bytes, and why its numbers change."""

    entry_id: FileName
    sha256: Sha256
    reason: LongText


class Submission(Group):
    """Who sent it; "reproduced" is set by a maintainer who ran it again."""

    submitter: Text | None
    status: Literal["self-reported", "reproduced"]
    statement: LongText | None
    supersedes: Supersedes | None = None


def _whole(value: object) -> object:
    """Refuse true and 1.0, which Python takes for 1."""
    if type(value) is not int:
        raise ValueError("Input should be a whole number")
    return value


class Entry(Group):
    """One model under one protocol."""

    schema_version: Annotated[Literal[1], BeforeValidator(_whole)]
    entry_id: FileName
    model: ModelGroup
    data: DataGroup
    protocol: ProtocolGroup
    clean_accuracy: Proportion
    spectral: Spectral
    corruption: Corruption | None
    adversarial: Adversarial | None
    provenance: Provenance
    submission: Submission
    benchmark: Benchmark | None = None
    systematic: Systematic | None = None
    decomposition: Decomposition | None = None
    chance: Chance | None = None  # optional: entries may be older

    @property
    def benchmark_id(self) -> str | None:
        """Host and threat model of an entry made inside another benchmark: the end of its id."""
        own = self.benchmark
        return None if own is None else f"{own.host}-{own.threat_model}"

    @property
    def board_file(self) -> str:
        """Its file in the folder of a board."""
        return f"entries/{self.data.name}/{self.entry_id}.json"

    @property
    def spectra(self) -> dict[tuple[str | int, ...], Spectral]:
        """Every spectral importance of the entry by its place: the clean one first."""
        spectra: dict[tuple[str | int, ...], Spectral] = {("spectral",): self.spectral}
        for k, profile in enumerate(self.benchmark.profiles if self.benchmark else ()):
            spectra["benchmark", "profiles", k] = profile
        return spectra
