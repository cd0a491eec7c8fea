"""What a published data set may be used for, in our words; nothing of it is read before the user says yes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.errors import UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """licence: what we know of it, the text of the column;  url: where to read it."""

    licence: str
    url: str

    def columns(self) -> dict[str, Any]:
        """Columns of an accepted data set's rows of `videos`."""
        return {"licence": self.licence, "terms_url": self.url, "terms_accepted": True}


def chosen_options(dataset: str, options: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The options over their defaults. Raises UserError for one that the source does not have."""
    unknown = sorted(set(options) - set(defaults))
    if unknown:
        raise UserError(f"data set {dataset}: no option {unknown[0]!r}; there are: {', '.join(defaults)}")
    return {**defaults, **options}


def require_terms(dataset: str, terms: Terms, accepted: Any) -> None:
    """Raises UserError unless `accepted` is True."""
    if accepted is not True:
        raise UserError(
            f"data set {dataset}: its terms are not accepted ({terms.licence}); read {terms.url}, then set the option accept_terms to true"
        )
