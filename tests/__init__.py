"""The tests. A package, so that `from tests.support import ...` works from every folder below."""
