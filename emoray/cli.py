"""Where the command of earlier installations begins."""

from emoray.commands.cli import main as main
