"""`foundation-registration encoders`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys

from ..encoders import encoder_info, encoders
from ..settings import Settings


def encoders_command(arguments: argparse.Namespace) -> None:
    """List the encoders as text, JSON or Markdown, and measure them on request."""
    from .encoder_list import encoder_facts, encoder_lines, encoder_table, encoder_text
    from .encoder_measuring import measure

    named = [encoder_info(name) for name in (*arguments.names, *(arguments.measure or ()))]
    listed = named or list(encoders().values())
    measured = {}
    for info in listed if arguments.measure is not None else ():
        sys.stderr.write(f"Measuring {info.name} ...\n")
        measured[info.name] = measure(info.name, Settings(device=arguments.device))
    if arguments.json:
        figures = {name: dataclasses.asdict(value) if value else None for name, value in measured.items()}
        rows = [{**encoder_facts(info), **({"measured": figures[info.name]} if figures else {})} for info in listed]
        text = json.dumps(rows, indent=2)
    elif arguments.markdown:
        text = encoder_table(measured or None)
    elif named or measured:
        text = "\n".join(encoder_text(info, measured) for info in listed)
    else:
        text = "\n".join(encoder_lines())
    print(text)  # noqa: T201 - the answer of a command
