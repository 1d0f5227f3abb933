"""A wheel holds the specs of jobs/ too, so `emoray run quickstart` needs no checkout; pyproject.toml has the rest."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class WithSpecs(build_py):
    """The package, and the shipped specs as emoray/specs; an editable installation finds them in jobs/."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        for file in [*Path("jobs").glob("*.yaml"), *Path("jobs").glob("experiments/*.yaml")]:
            place = Path(self.build_lib) / "emoray/specs" / file.relative_to("jobs")
            self.mkpath(str(place.parent))
            self.copy_file(str(file), str(place))


setup(cmdclass={"build_py": WithSpecs})
