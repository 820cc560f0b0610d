"""`wgpy doctor`: what this host can and cannot do, and what to do about it."""

from __future__ import annotations

import json

import click

from wgpy.agent.checks import Verdict, run_checks
from wgpy.agent.repair import repair

_MARKS = {Verdict.GOOD: "ok  ", Verdict.NOTE: "note", Verdict.BAD: "BAD "}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
@click.option(
    "--repair",
    "with_repair",
    is_flag=True,
    help="First take back what killed processes of wgpy left on this host, a kill switch included.",
)
def doctor(as_json: bool, with_repair: bool) -> None:
    """Look at this host: TUN, permissions, sockets, clock, state files, other firewalls and WireGuards.

    The exit status is 1 when `wgpy up` cannot work.
    """
    if with_repair:
        for line in repair() or ["nothing was left behind"]:
            click.echo(f"repair: {line}", err=as_json)
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
