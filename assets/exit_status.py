"""How a command ends: 0 all done; 1 finished, some videos or clips failed; 2 nothing usable."""

from __future__ import annotations

import sys

import click


def leave(failed: int, usable: int, query: str = "clip_id, error, reason from poses where error is not null") -> None:
    """End the command with its status. query: what to select to see the failures."""
    if usable == 0:
        click.echo(
            f"nothing usable: {failed} failed; rotoscope query \"select video_id, code, reason from videos where status <> 'ok'\"", err=True
        )
        sys.exit(2)
    if failed:
        click.echo(f'{failed} videos or clips failed; rotoscope query "select {query}"', err=True)
        sys.exit(1)
