"""The columns of the tidy CSV files: name, unit, range, meaning, and where a row has the value.

These tables write the files and data-dictionary.md.
"""

from __future__ import annotations

from typing import NamedTuple

CLEAN, WORST_CASE = "clean", "worst case"
ALL_CORRUPTIONS, ALL_READINGS, ALL_CONDITIONS = "all corruptions", "all readings", "all conditions"


class Field(NamedTuple):
    """One column: `path` is the attribute of a row that it shows, empty behind a missing group."""

    name: str
    unit: str
    values: str
    what: str
    path: str


TEXT, COUNT, SHARE, NUMBER = "text", "count", "share", "number"
SOME, UNIT, DIGEST = "at least 1", "[0, 1]", "64 digits"

RESULTS = (
    Field("entry_id", TEXT, "", "the entry, a row of models.csv", "entry.entry_id"),
    Field("dataset", TEXT, "", "name of the image set", "entry.data.name"),
    Field(
        "protocol_id", TEXT, "",
        "every choice that changes a number, in short; do not compare across protocols",
        "entry.protocol.protocol_id",
    ),
    Field("model", TEXT, "", "shown name of the model", "entry.model.name"),
    Field(
        "condition", TEXT,
        "clean, a corruption, an attack, a reading of the files, worst case, all corruptions, all "
        "readings, all conditions",
        "what the images were put through; steps, step size and start stand in an attack's name",
        "where.condition",
    ),
    Field("severity", COUNT, "1 to 5", "of the corruption", "where.severity"),
    Field("norm", TEXT, "Linf, L2", "of the attack", "where.norm"),
    Field("budget", NUMBER, "at least 0", "of the attack, for pixels in [0, 1]", "where.budget"),
    Field("band", COUNT, "0 to n_bands - 1", "0 is the lowest and holds the mean", "band"),
    Field("quantity", TEXT, "see below", "what the value is", "quantity"),
    Field("n", COUNT, SOME, "images behind the value", "n"),
    Field("value", NUMBER, "see the quantity", "full precision", "value"),
    Field("low", NUMBER, "", "lower end of the 95 % interval over images", "interval.0"),
    Field("high", NUMBER, "", "upper end of it", "interval.1"),
)  # fmt: skip

QUANTITIES = {  # unit, range, what it is
    "accuracy": (SHARE, UNIT, "images classified rightly; worst case: under every attack of a "
                 "norm and budget"),
    "error": (SHARE, UNIT, "1 - accuracy"),
    "probability_change": (SHARE, UNIT, "mean absolute change of the true class's probability"),
    "spectral_accuracy": (SHARE, UNIT, "accuracy on the images of the spectral importance"),
    "uncorrupted_accuracy": (SHARE, UNIT, "accuracy on the images that were corrupted"),
    "own_accuracy": (SHARE, UNIT, "accuracy with the model's own reading of the files"),
    "accuracy_after_attack": (SHARE, UNIT, "accuracy once this attack of several, run one after "
                              "another, has been through"),
    "shapley_value": ("nats", "any", "the band's part of the true class's log-likelihood"),
    "distribution": (SHARE, UNIT, "the band's importance; sums to 1 over bands"),
    "score": (NUMBER, "at least 0", "spectral robustness score"),
    "signed_score": (NUMBER, "any", "above 0 where importance leans to low bands"),
    "log_likelihood_empty": ("nats", "at most 0", "mean log-likelihood without any band"),
    "log_likelihood_grand": ("nats", "at most 0", "the same with all bands"),
    "mean_corruption_error": (SHARE, UNIT, "mean over corruptions and severities, unnormalised"),
    "mce": ("ratio", "at least 0", "mean corruption error as a fraction of the reference model's "
            "on the same images"),
    "error_over_published": ("ratio", "at least 0", "the same as a fraction of published errors "
                             "on other images"),
    "mean_error": (SHARE, UNIT, "mean error over the readings"),
    "mean_added_error": (SHARE, "[-1, 1]", "mean over the readings of the error that they add"),
    "added_error": (SHARE, "[-1, 1]", "error minus that of the model's own reading, paired"),
    "changed": (SHARE, UNIT, "images whose answer changes"),
    "clean_error": (SHARE, UNIT, "error without the perturbation, where it was split over bands"),
    "perturbed_error": (SHARE, UNIT, "error with it: the clean error and the errors by band"),
    "error_by_band": (SHARE, "[-1, 1]", "what the perturbation in this band adds to the error"),
}  # fmt: skip

MODELS = (
    Field("entry_id", TEXT, "", "name of the entry's file", "entry.entry_id"),
    Field("model", TEXT, "", "shown name", "entry.model.name"),
    Field("architecture", TEXT, "", "the host's name of it", "entry.model.architecture"),
    Field("family", TEXT, "", "its models are no independent draws", "family"),
    Field("training", TEXT, "", "how it was trained", "entry.model.training"),
    Field("n_parameters", COUNT, "at least 0", "parameters", "entry.model.n_parameters"),
    Field("n_classes", COUNT, SOME, "classes", "entry.model.n_classes"),
    Field("licence", TEXT, "", "of the weights", "entry.model.licence"),
    Field("source", TEXT, "", "library or collection", "entry.model.source"),
    Field("spec", TEXT, "", "the model as a command takes it", "entry.model.spec"),
    Field("trained_on", TEXT, "", "data set of the weights", "entry.model.dataset"),
    Field("weights", TEXT, "", "name of the weights", "entry.model.weights"),
    Field("weights_sha256", TEXT, DIGEST, "of the weights", "entry.model.weights_sha256"),
    Field("dataset", TEXT, "", "name of the image set", "entry.data.name"),
    Field("image_ids_sha256", TEXT, DIGEST, "of the images' ids", "entry.data.image_ids_sha256"),
    Field("n_images", COUNT, SOME, "images of the entry", "entry.data.n_images"),
    Field("n_available", COUNT, SOME, "images there are", "entry.data.n_available"),
    Field("n_spectral_images", COUNT, SOME, "for the importance", "entry.spectral.n_images"),
    Field("n_corrupted_images", COUNT, SOME, "corrupted", "entry.corruption.n_images"),
    Field("n_attacked_images", COUNT, SOME, "attacked", "entry.adversarial.n_images"),
    Field("n_split_images", COUNT, SOME, "errors by band", "entry.decomposition.n_images"),
    Field("image_height", "pixels", SOME, "of the input", "entry.spectral.image_size.0"),
    Field("image_width", "pixels", SOME, "of the input", "entry.spectral.image_size.1"),
    Field("image_note", TEXT, "", "what else is known of the images", "entry.data.note"),
    Field("protocol_id", TEXT, "", "see results.csv", "entry.protocol.protocol_id"),
    Field("n_bands", COUNT, "2 to 32", "bands", "entry.protocol.n_bands"),
    Field("benchmark", TEXT, "", "host and threat model of another's run", "entry.benchmark_id"),
    Field(
        "status", TEXT, "self-reported, reproduced", "who ran it", "entry.submission.status"
    ),
    Field("submitter", TEXT, "", "who sent it", "entry.submission.submitter"),
    Field("date", TEXT, "ISO 8601, UTC", "when it was measured", "entry.provenance.date"),
    Field("iaside_plugins", TEXT, "", "version", "entry.provenance.iaside_plugins"),
    Field("git_commit", TEXT, "", "of the code", "entry.provenance.git_commit"),
    Field("python", TEXT, "", "version", "entry.provenance.python"),
    Field("versions", TEXT, "name==version ...", "of the libraries", "versions"),
    Field("device", TEXT, "", "what computed it", "entry.provenance.device"),
)  # fmt: skip

IMAGENET_C = (
    Field("model", TEXT, "", "shown name", "entry.model.name"),
    Field("top1", "%", "[0, 100]", "mean accuracy over corruptions and severities", "top1"),
    Field("top1_err", "%", "[0, 100]", "100 - top1: the unnormalised mean error", "top1_err"),
    Field("param_count", "millions", "at least 0", "parameters, a plain number", "param_count"),
    Field("img_size", "pixels", SOME, "of the input", "entry.spectral.image_size.1"),
    Field("crop_pct", SHARE, "above 0", "crop over resized side; empty without both", "crop_pct"),
    Field("interpolation", TEXT, "", "of the resize", "entry.model.preprocessing.interpolation"),
    Field("top1_diff", "%", "[-100, 100]", "top1 minus that of the images as they are",
          "top1_diff"),
    Field("mce", "%", "at least 0", "mCE; empty without a reference on the same images", "mce"),
    Field("mce_reference", TEXT, "", "the model whose mCE is 100", "corruption.mce.reference"),
    Field("n_corruptions", COUNT, "1 to 15", "corruptions behind the means",
          "corruption.unnormalised_mean_error.n_corruptions"),
    Field("n_images", COUNT, SOME, "images", "corruption.n_images"),
    Field("source", TEXT, "generated, distributed", "made here, or the published files",
          "corruption.source"),
    Field("entry_id", TEXT, "", "the entry, a row of models.csv", "entry.entry_id"),
)  # fmt: skip
