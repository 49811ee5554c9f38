"""An agreement report for people: plain text for a terminal, Markdown for a page."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from iaside_plugins.attributions.agreement import AgreementReport
from iaside_plugins.display.text import aligned, markdown_table, row_number

if TYPE_CHECKING:
    import pandas as pd

AGREEMENT = {  # column of `to_frame`: heading and format
    "rank_correlation": ("rank correlation", "+.2f"),
    "image_rank_correlation": ("image by image", "+.2f"),
    "sign_agreement": ("same sign", ".2f"),
    "profile_distance": ("distance", ".2f"),
}
METRICS = {
    "residual": ("residual (nats)", ".2g"),
    "infidelity": ("infidelity (nats²)", ".3g"),
    "sensitivity": ("sensitivity", ".2g"),
}

NO_SENSITIVITY = (
    "sensitivity: not measured, as it explains an image 5 more times; --n-sensitivity N measures "
    "it on N images"
)


def agreement_markdown(report: AgreementReport) -> str:
    """One table, a row a method: agreement with the first one, metrics, cost of an image."""
    head = [
        "method",
        *(heading for heading, _ in (AGREEMENT | METRICS).values()),
        "passes forward + backward",
        "s/image",
    ]
    rows = [
        [str(row["title"]), *_cells(row, AGREEMENT | METRICS), *_cost(row)]
        for _, row in report.to_frame().iterrows()
    ]
    return markdown_table([head, *rows])


def agreement_text(report: AgreementReport) -> str:
    """Three tables: profiles, agreement with the first method, metrics and cost."""
    frame, first = report.to_frame(), report.methods[0].title
    profiles = report.profiles()
    bands = range(report.protocol.n_bands)
    values = [["attribution of each band, nats ± 95 %", *(f"{band}" for band in bands)]]
    for method in report.methods:
        own = profiles[profiles["method"] == method.name]
        unit = "" if method.signed else " (no unit)"
        values.append([f"  {method.title}{unit}", *map(_value, own.to_dict("records"))])
    agreement = [[f"agreement with {first}", *(heading for heading, _ in AGREEMENT.values())]]
    metrics = [
        ["metrics and cost", *(heading for heading, _ in METRICS.values()), "passes", "s/image"]
    ]
    for k, (_, row) in enumerate(frame.iterrows()):
        if k:
            agreement.append([f"  {row['title']}", *_cells(row, AGREEMENT)])
        metrics.append([f"  {row['title']}", *_cells(row, METRICS), *_cost(row)])
    return "\n".join(
        [
            f"attributions of {report.protocol.n_bands} bands on {report.n_images} images, "
            f"protocol {report.protocol.protocol_id}; 95 % intervals over images",
            *aligned(values),
            f"of {first}, {report.evidence(report.methods[0]).sentence}",
            "",
            *aligned(agreement),
            "",
            *aligned(metrics),
            *([NO_SENSITIVITY] if frame["sensitivity"].isna().all() else []),
            "rank correlation, same sign, distance: of the mean profiles; image by image: mean of "
            "each image's own",
        ]
    )


def _value(row: Mapping[Hashable, Any]) -> str:
    """Return a mean attribution with the half-width of its interval, if it has one."""
    half = row["value_high"] - row["value"]
    return f"{row['value']:+.3f}" + ("" if np.isnan(half) else f" ± {half:.3f}")


def _cells(row: pd.Series, columns: dict[str, tuple[str, str]]) -> list[str]:
    """Return numbers with their intervals, a dash where there is none."""
    return [row_number(row, name, spec) for name, (_, spec) in columns.items()]


def _cost(row: pd.Series) -> list[str]:
    """Return the passes forward and backward, and the seconds, of one image."""
    return [
        f"{row['forward_passes']:.0f} + {row['backward_passes']:.0f}",
        f"{row['seconds']:.2g}",
    ]
