from __future__ import annotations

import pkgutil

import elsewhere.deploy


def test_no_name_is_also_a_module_s() -> None:
    """Else what `from elsewhere.deploy import NAME` gives depends on what was imported before."""
    modules = {module.name for module in pkgutil.iter_modules(elsewhere.deploy.__path__)}
    assert modules.isdisjoint(elsewhere.deploy.__all__)
    assert set(elsewhere.deploy.__all__) == set(elsewhere.deploy._WHERE)
    assert modules.issuperset(elsewhere.deploy._WHERE.values())
