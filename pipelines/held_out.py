"""TEST_SPLITS: names of splits that are only ever tested on. A score carries the name, so numbers of two test sets never meet in a column."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

TEST_SPLITS: Mapping[str, str] = MappingProxyType(
    {
        "test": "the data set's own",
        "tiktok_335_340": "TikTok: sequences 00335 to 00340 of the public archive",
        "tiktok_disco10": "TikTok: DisCo's ten videos; the list is the user's, it is not public",
        "hia_41": "TikTok: HIA's 41 videos; the list is the user's, it is not public",
        "ted_csv": "TED-talks: the rows of the CSV whose partition is test; the committed CSV has none, so it is the authors' own list",
        "ubc_100": "UBC Fashion: the published list of 100 links",
    }
)
