"""skaffold.yaml against Skaffold's own schema, with each profile applied."""

from __future__ import annotations

import json

import jsonschema
import pytest

from support.skaffold import PROFILES, ROOT, config, with_profile

SCHEMA = ROOT.parent / "shared" / "schemas" / "skaffold-v4beta14.json"


@pytest.mark.skipif(not SCHEMA.exists(), reason="Skaffold's schema is not beside the repository")
@pytest.mark.parametrize("profile", ["", *PROFILES])
def test_it_is_valid(profile: str) -> None:
    """Every field is known to Skaffold and of its type."""
    schema = json.loads(SCHEMA.read_text())
    document = with_profile(profile) if profile else config()
    assert document["apiVersion"] in SCHEMA.stem.replace("skaffold-", "skaffold/")
    validator = jsonschema.validators.validator_for(schema)(schema)
    assert [error.message for error in validator.iter_errors(document)] == []
