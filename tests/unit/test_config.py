"""Tests of ``conformergen.config``."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import repeat

from conformergen.config import from_mapping, load_config, parse_override
from conformergen.errors import InputError


@repeat
@given(
    st.sampled_from(("tiny", "small", "drugs")),
    st.integers(1, 10**6),
    st.floats(1e-6, 1.0),
    st.sampled_from(("none", "recm", "fixed")),
)
def test_configurations_survive_their_own_text(preset, steps, rate, mode):
    from dataclasses import asdict

    flags = [f"training.steps={steps}", f"training.learning_rate={rate}", f"network.relaxation.mode={mode}"]
    config = load_config(preset, None, flags)
    assert from_mapping(type(config), json.loads(json.dumps(asdict(config)))) == config


def test_configuration_layers_and_unknown_keys(tmp_path):
    toml = tmp_path / "run.toml"
    toml.write_text("[training]\nlearning_rate = 1\n[network.relaxation]\nrank = 3\n")
    config = load_config("tiny", toml, ["training.steps=7", "network.relaxation.mode=none"])
    assert (config.training.learning_rate, config.training.steps) == (1.0, 7)
    assert (config.network.relaxation.rank, config.network.relaxation.mode) == (3, "none")
    for bad in ("training.stepz=7", "training.steps=many", "network=3", "training.steps=0", "nonsense"):
        with pytest.raises(InputError):
            load_config("tiny", None, [bad])
    assert parse_override("a.b=x") == {"a": {"b": "x"}}
