"""What pyproject.toml has no word for: `sql/` lies beside the package and is installed inside it, as its data."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SQL = Path(__file__).parent / "sql"


class BuildWithSql(build_py):
    """Copies `sql/` to `pipeline/sql/` in a build; an editable installation reads it where it lies."""

    def run(self) -> None:
        """Build, then copy."""
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib, "pipeline", "sql")
            shutil.rmtree(target, ignore_errors=True)  # of a build before
            shutil.copytree(SQL, target)

    def get_source_files(self) -> list[str]:
        """Those that a source distribution holds."""
        here = Path(__file__).parent
        return [*super().get_source_files(), *(str(path.relative_to(here)) for path in sorted(SQL.rglob("*.sql")))]

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """Those that a build writes."""
        written = [str(Path(self.build_lib, "pipeline", path.relative_to(SQL.parent))) for path in SQL.rglob("*.sql")]
        return [*super().get_outputs(include_bytecode), *written]


setup(cmdclass={"build_py": BuildWithSql})
