"""The tests; a package, so that one test module can import another (`from tests import oracle`)."""
