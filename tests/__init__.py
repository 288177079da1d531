"""The tests: a package, so that `from tests.support import ...` works in every folder below."""
