"""`wgpy doctor`: what this host can and cannot do, and what to do about it."""

from __future__ import annotations

import json

import click

from wgpy.agent.checks import Verdict, run_checks

_MARKS = {Verdict.GOOD: "ok  ", Verdict.NOTE: "note", Verdict.BAD: "BAD "}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def doctor(as_json: bool) -> None:
    """Look at this host: TUN, permissions, sockets, clock, state files, other WireGuard interfaces.

    The exit status is 1 when `wgpy up` cannot work.
    """
    findings = run_checks()
    if as_json:
        click.echo(json.dumps([finding.to_json() for finding in findings], indent=2))
    else:
        width = max(len(finding.check) for finding in findings)
        for finding in findings:
            advice = f": {finding.advice}" if finding.advice else ""
            click.echo(f"{_MARKS[finding.verdict]}  {finding.check.ljust(width)}  {finding.text}{advice}")
    if any(finding.verdict is Verdict.BAD for finding in findings):
        raise click.exceptions.Exit(1)
