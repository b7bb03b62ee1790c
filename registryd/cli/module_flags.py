"""The flags that name modules of the site and devices."""

from __future__ import annotations

from registryd.cli.arguments import Parser


def module_flags(parser: Parser) -> None:
    """Declare ``--module`` and ``--device``."""
    group = parser.add_argument_group("this machine")
    group.add_argument(
        "-m",
        "--module",
        metavar="NAME[,NAME]",
        dest="modules",
        action="append",
        default=[],
        help="these modules of the site instead of its default ones; none for none",
    )
    group.add_argument(
        "--device",
        metavar="DEVICE",
        dest="devices",
        action="append",
        default=[],
        help="vendor.com/class=name of the Container Device Interface, or /dev/NAME[:TARGET]",
    )
    for flag, device in (("--nv", "nvidia.com/gpu=all"), ("--rocm", "amd.com/gpu=all")):
        group.add_argument(
            flag,
            dest="devices",
            action="append_const",
            const=device,
            default=[],
            help=f"as apptainer has it: --device {device}",
        )
