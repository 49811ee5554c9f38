"""AutoAttack with a tenth of its steps, for tests in which the number of steps says nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from iaside_plugins.adapters.compat import import_pyautoattack

FEWER = 10


@contextmanager
def few_steps() -> Iterator[None]:
    """Run a part of whatever steps an AutoAttack was given: ours still differ if they would."""
    attack = import_pyautoattack().AutoAttack
    run = attack.run_standard_evaluation

    def quick(self: Any, *images: Any, **options: Any) -> Any:
        for one in (self.apgd, self.apgd_targeted, self.fab):
            one.n_iter //= FEWER
        self.square.n_queries //= FEWER
        return run(self, *images, **options)

    with mock.patch.object(attack, "run_standard_evaluation", quick):
        yield
