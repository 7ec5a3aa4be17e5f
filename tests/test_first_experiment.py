"""The first result: what start.py shows a learner."""

import re

import pytest

from gradcourse.first_experiment import CONFIG, run_first_experiment


@pytest.mark.parametrize("seed", range(3))
def test_first_experiment_measures_theorys_factor(seed, tmp_path, capsys):
    run_first_experiment(seed, tmp_path / "first.png")
    printed = capsys.readouterr().out
    match = re.search(r"^measured factor per layer (0\.\d{4}), theory (0\.\d{4})$", printed, re.MULTILINE)
    assert float(match[1]) == pytest.approx(0.2361, abs=0.006)
    assert match[2] == "0.2361"
    assert len(re.findall(r"^ +\d+ +\d\.\de[-+]\d\d +\d\.\de[-+]\d\d$", printed, re.MULTILINE)) == CONFIG.depth
    assert "Diagnosis: vanishing" in printed
    assert (tmp_path / "first.png").read_bytes().startswith(b"\x89PNG")


def test_another_seed_gives_other_digits(tmp_path, capsys):
    lines = set()
    for seed in range(3):
        run_first_experiment(seed, tmp_path / "first.png")
        lines |= {line for line in capsys.readouterr().out.splitlines() if line.startswith("measured")}
    assert len(lines) == 3
