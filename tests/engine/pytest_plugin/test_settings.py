"""The arguments of the marker: of a test, its class and its module, and what is wrong with them."""

from __future__ import annotations

import pytest

from penstock.engine.pytest_plugin.settings import Settings
from penstock.testing import Script, answer, fail, rule

pytest_plugins = ["pytester"]

HEAD = "import pytest\nfrom penstock.testing import Script, answer, fail\n"


def settings(pytester: pytest.Pytester, text: str) -> Settings:
    """Those of a test named `test_it`."""
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    item = pytester.getitem(HEAD + text, "test_it")
    found = Settings.of(item)
    found.check(item)
    return found


def test_a_test_without_a_marker_has_the_defaults(pytester: pytest.Pytester) -> None:
    assert settings(pytester, "def test_it(): ...") == Settings()


def test_the_closest_word_counts(pytester: pytest.Pytester) -> None:
    text = """
pytestmark = pytest.mark.penstock(model="of the module", api_key="of the module")

@pytest.mark.penstock(seed=1)
@pytest.mark.penstock(api_key="of the test")
def test_it(): ...
"""
    assert settings(pytester, text) == Settings(model="of the module", api_key="of the test", seed=1)


@pytest.mark.parametrize(
    "arguments, told",
    [
        ("scirpt=[]", "has no argument 'scirpt'; it has script, rules, gateway, "),
        ("[fail(429)]", "takes its arguments by name, such as script="),
        ("script=[429]", "cannot work: "),
        ("script=Script(), rules=[]", "takes rules= beside a list; a Script has its own: "),
        ("script=(fail(429) for _ in range(2))", "takes a list of steps and rules, or a Script, as script=, not <gen"),
        ("script=fail(429)", "takes a list of steps and rules, or a Script, as script=, not Fail("),
        ("rules=[fail(429)]", "takes a list of rules as rules=, [rule(fail(429))], not [Fail("),
        ("idle_close_s='5'", "cannot work: idle_close_s is a number above 0, not '5'"),
        ("gateway='nowhere'", "cannot work: no dialect is called 'nowhere'"),
        ("timeouts=3", "takes a penstock.Timeouts as timeouts=, not 3"),
        ("speed=-1", "takes a number from 0 as speed=, not -1"),
        ("leaks='maybe'", "takes 'fail' or 'trace' or 'ignore' as leaks=, not 'maybe'"),
    ],
)
def test_what_cannot_work_is_a_usage_error(pytester: pytest.Pytester, arguments: str, told: str) -> None:
    with pytest.raises(pytest.UsageError) as failure:
        settings(pytester, f"@pytest.mark.penstock({arguments})\ndef test_it(): ...")
    assert "::test_it: @pytest.mark.penstock " + told in str(failure.value)


def test_rules_stand_before_the_script() -> None:
    to_bob = rule(answer("To Bob."), message="Bob")
    assert Settings(rules=[to_bob], script=[fail(429)]).gateway_options["script"] == [to_bob, fail(429)]
    assert Settings(rules=[to_bob]).gateway_options["script"] == [to_bob]


def test_a_script_is_taken_as_it_is() -> None:
    script = Script(default=fail(429))
    assert Settings(script=script).gateway_options["script"] is script
