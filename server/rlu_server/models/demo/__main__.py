"""`python -m rlu_server.models.demo DIRECTORY`: make the demo model, with a progress bar."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from rlu_server.models.demo import DemoModelError, make_demo_model


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m rlu_server.models.demo", description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    console = Console(stderr=True)
    loss = TextColumn("loss {task.fields[loss]:.3f}")
    columns = (TextColumn("demo model"), BarColumn(), MofNCompleteColumn(), loss, TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("training", total=None, loss=0.0)
        try:
            make_demo_model(
                arguments.directory,
                arguments.seed,
                lambda done, total, loss: bar.update(task, completed=done, total=total, loss=loss),
            )
        except (DemoModelError, OSError) as error:
            console.print(f"error: {error}", style="red")
            return 1
    console.print(f"demo model: {arguments.directory}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
