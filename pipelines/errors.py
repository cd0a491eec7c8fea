"""What can go wrong, as types and as a closed list of codes.

RotoscopeError          message = what is wrong, why, and what to do
├── UserError           the user's input cannot be used; exit status 2
│   └── MissingWeightsError   a pretrained file is not at hand
└── ClipError           one video or clip cannot be used; becomes a row, never stops a run
"""

from __future__ import annotations

from typing import Literal, get_args

Code = Literal[
    "empty_file",  # zero bytes
    "not_a_video",  # no container that we can open, or no video stream in it
    "truncated",  # the container promises more than the file holds
    "no_frames",  # opens, holds no frame
    "decode_error",  # the decoder stopped inside the clip
    "unreadable",  # the file system refused it
    "duplicate",  # the same bytes as another video of the data set
    "too_short",  # fewer frames than the smallest clip
    "no_person",  # nobody was found in any frame
    "missing_truth",  # the performers' annotations are not beside the video
    "extractor_failed",  # an extractor raised
    "timeout",  # over the time limit for one clip
    "worker_died",  # the process that held the clip died
    "frame_count",  # generated and driving clip differ in length
    "frame_size",  # generated and driving clip differ in size
    "not_downloaded",  # the server, the network or the site refused it; the column availability says how
    "not_allowed",  # a URL or file name that we do not open: private address, other scheme, path outside the archive
    "terms_not_accepted",  # the data set's terms are not accepted yet
    "removed",  # removed by `rotoscope forget`; not fetched again
    "bad_annotation",  # an annotation file or metadata row that cannot be used
    "out_of_memory",  # one frame alone does not fit into memory
    "missing_prediction",  # the method did not deliver this clip
]

CODES: frozenset[str] = frozenset(get_args(Code))


class RotoscopeError(Exception):
    """Base of every error that we raise on purpose."""


class UserError(RotoscopeError):
    """Input that cannot be used: says which option or file, what is wrong and what to do (exit status 2)."""


class MissingWeightsError(UserError):
    """A pretrained file is missing: names the role, the file, where to get it and the command that does."""


class ClipError(RotoscopeError):
    """One video or clip that cannot be used; stored as a row with its code.

    subject: video or clip id;  cause: what is wrong;  remedy: what the user can do about it.
    """

    def __init__(self, code: Code, subject: str, cause: str, remedy: str) -> None:
        super().__init__(code, subject, cause, remedy)  # positional arguments, so that it survives pickling
        self.code, self.subject, self.cause, self.remedy = code, subject, cause, remedy

    @property
    def reason(self) -> str:
        """Text of the `reason` column."""
        return f"{self.cause}; {self.remedy}"

    def __str__(self) -> str:
        return f"{self.subject}: {self.code}: {self.reason}"
