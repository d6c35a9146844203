"""The first seeds of `tests.fuzz`: 1,800 random convolutions, every lowering, by the reference interpreter."""

import pytest

from tests import fuzz


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(18))
def test_every_lowering_is_the_oracle(seed: int) -> None:
    assert fuzz.run(seed)["auto"] == fuzz.EACH == 100


def test_a_mistake_is_named_by_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "EACH", 1)
    monkeypatch.setattr(fuzz, "expected", lambda case, numbers: tuple(2 * a for a in numbers))
    with pytest.raises(AssertionError, match=r"seed 7, chunks of \d+ bytes: [^!]*Case\("):
        fuzz.run(7)
