"""The fixtures of the commands' tests."""

from tests.cli.conftest import handlers_as_before as handlers_as_before
from tests.cli.conftest import lake_run as lake_run
from tests.cli.conftest import type_in as type_in
