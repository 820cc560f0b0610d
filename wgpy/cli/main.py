"""`wgpy`: the commands, each imported when it is called.

What a command imports stays in memory as long as it runs, and `wgpy up` runs for months on a router.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from typing import Final, NamedTuple, NoReturn

import click

from wgpy import __version__
from wgpy.errors import HostError, WgpyError, sole_error


class _Entry(NamedTuple):
    module: str
    attribute: str
    summary: str


SECTIONS: Final[dict[str, dict[str, _Entry]]] = {
    "A host on a mesh, or with a configuration file": {
        "up": _Entry("wgpy.cli.up", "up", "Join by a token, or start what was joined, or FILE.conf."),
        "down": _Entry("wgpy.cli.up", "down", "Stop a mesh or a tunnel; it can be started again."),
        "leave": _Entry("wgpy.cli.leave", "leave", "Stop and forget a mesh, on both sides."),
        "set": _Entry("wgpy.cli.set", "set_", "Change a node that runs: ranges, exit node, name."),
        "status": _Entry(
            "wgpy.cli.status", "status", "Show every peer: address, path and its reason, transfer."
        ),
        "ping": _Entry("wgpy.cli.ping", "ping", "Ping a peer, and say by which path."),
        "netcheck": _Entry(
            "wgpy.cli.netcheck", "netcheck", "Say how this host is seen from outside: UDP, NAT, direct paths."
        ),
        "doctor": _Entry("wgpy.cli.doctor", "doctor", "Say what this host can and cannot do."),
        "bugreport": _Entry(
            "wgpy.cli.bugreport",
            "bugreport",
            "Write one file with what helps to find a fault, without secrets.",
        ),
        "service": _Entry("wgpy.cli.service", "service", "Start a mesh with the host."),
    },
    "What wg(8) has": {
        "show": _Entry("wgpy.cli.show", "show", "Show WireGuard devices."),
        "genkey": _Entry("wgpy.cli.keys", "genkey", "Print a new private key."),
        "pubkey": _Entry("wgpy.cli.keys", "pubkey", "Print the public key of a private key."),
        "genpsk": _Entry("wgpy.cli.keys", "genpsk", "Print a new preshared key."),
    },
    "A network": {
        "coordinator": _Entry(
            "coordinator.cli", "coordinator", "Serve and administer the networks of a mesh."
        ),
        "relay": _Entry("wgpy.cli.relay", "relay", "Carry packets for nodes that cannot reach each other."),
    },
}
"""Commands by section: where each is, and the line that stands for it, which needs no import."""

COMMANDS: Final = {name: entry for section in SECTIONS.values() for name, entry in section.items()}


class LazyGroup(click.Group):
    """A group whose commands are found by name in COMMANDS."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        try:
            module = importlib.import_module(entry.module)
        except ModuleNotFoundError as error:
            if not entry.module.startswith("coordinator"):
                raise
            raise HostError(
                f"the coordinator is not installed here ({error.name} is missing): "
                "pip install 'wgpy[coordinator]'"
            ) from error
        command = getattr(module, entry.attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, section in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, entry.summary) for name, entry in section.items()], col_spacing=3)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="wgpy")
@click.option("-v", "--verbose", is_flag=True, help="Log what happens, to standard error.")
def wgpy(verbose: bool) -> None:
    """WireGuard in user space, and a mesh made of it.

    `wgpy up TOKEN` puts this host on a mesh; `wgpy COMMAND --help` tells more of a command.
    """
    level = logging.DEBUG if verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")


def main() -> NoReturn:
    """The program: an error for our user is one line, and its exit code the error's."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run a command line; returns the exit status."""
    try:
        result = wgpy.main(args=arguments, prog_name="wgpy", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:
        # Whoever read has enough (`wgpy show | head`); what Python still flushes at exit goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except WgpyError as error:
        return _tell(error)
    except BaseExceptionGroup as group:
        sole = sole_error(group)
        if isinstance(sole, KeyboardInterrupt):
            return 130
        if not isinstance(sole, WgpyError):
            raise
        return _tell(sole)


def _tell(error: WgpyError) -> int:
    click.echo(f"wgpy: {error}", err=True)
    return error.exit_code


if __name__ == "__main__":
    main()
