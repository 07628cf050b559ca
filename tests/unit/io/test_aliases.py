"""Tests of ``conformergen.io.aliases``."""

from conformergen.io.aliases import modern_checkpoint, modern_configuration, modern_search_stats


def test_configuration_of_an_earlier_manifest_has_the_new_names():
    old = {
        "seeds": {"pool": 8, "mmff94s": True, "pairing": "relaxed"},
        "reference": {"level": "gfn-ff"},
        "split": "keep",
    }
    assert modern_configuration(old) == {
        "starts": {"min_starts": 8, "mmff94s": True, "pairing": "minimised"},
        "reference": {"theory": "gfn-ff"},
        "split": "keep",
    }
    assert modern_configuration(modern_configuration(old)) == modern_configuration(old)


def test_settings_of_an_earlier_checkpoint_have_the_new_names():
    old = {"seeds_mmff94s": True, "progress": {"step": 3, "caution": 0.5, "skipped": 1, "skipped_lately": [2]}}
    assert modern_checkpoint(old) == {
        "starts_mmff94s": True,
        "progress": {"step": 3, "lr_factor": 0.5, "n_skipped": 1, "recent_skips": [2]},
    }


def test_statistics_of_an_earlier_search_have_the_new_names():
    assert modern_search_stats({"settings": {"level": "gfn2-xtb"}, "name": "x"}) == {
        "settings": {"theory": "gfn2-xtb"},
        "name": "x",
    }
