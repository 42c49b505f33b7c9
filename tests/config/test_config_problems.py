"""A bad file is refused with everything that is wrong in it: path, line, and the nearest right name."""

import hashlib
from pathlib import Path

import pytest

from tidegate.config.load import load, load_file
from tidegate.config.problem import ConfigInvalid, Problem, join
from tidegate.dialects.validation import nearest

KEY = "9b1f7c03e5d24a68b7c1d0e2f3a45967"
ENV = {"OPENAI_API_KEY": "sk-openai-0123456789abcdefghijklmno", "K": KEY, "PORT_NAME": "canary-port"}
LAB = '[providers.lab]\nbase_url = "http://10.0.0.5:8000/v1"\n'


def problems_of(text: str, env: dict[str, str] | None = None, **more: object) -> tuple[Problem, ...]:
    with pytest.raises(ConfigInvalid) as caught:
        load(text, "tidegate.toml", ENV if env is None else env, **more)  # type: ignore[arg-type]
    return caught.value.problems


def only(text: str, env: dict[str, str] | None = None, **more: object) -> Problem:
    problems = problems_of(text, env, **more)
    assert len(problems) == 1, [problem.render("") for problem in problems]
    return problems[0]


def test_everything_is_reported_at_once_in_the_order_of_the_file() -> None:
    text = """
[server]
port = "many"
hots = "127.0.0.1"
[providers.openai]
timeouts = { idel = "30s" }
[providers.lab]
speaks = ["chatt"]
[[keys]]
name = "a"
secret = "short"
"""
    found = [(problem.path, problem.line, problem.nearest) for problem in problems_of(text)]
    assert found == [
        ("server.port", 3, ""),
        ("server.hots", 4, "host"),
        ("providers.openai.timeouts.idel", 6, "idle"),
        ("providers.lab.base_url", 7, ""),
        ("providers.lab.speaks[0]", 8, "chat"),
        ("keys[0].secret", 11, ""),
    ]


def test_the_list_reads_as_the_documentation_shows_it() -> None:
    text = LAB + "[providers.lab.timeouts]\nidel = 3"
    with pytest.raises(ConfigInvalid) as caught:
        load(text, "tidegate.toml", {})
    assert caught.value.render() == (
        "tidegate.toml has 1 problem:\n"
        "  tidegate.toml:4: providers.lab.timeouts.idel: unknown key; did you mean `idle`?"
    )
    assert str(caught.value) == caught.value.render()


def test_an_unknown_key_like_no_other_names_the_known_ones() -> None:
    problem = only("[defaults]\nzzz = 1")
    assert problem.nearest == ""
    assert "`model`, `speech_model`" in problem.message


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        ("[server]\nport = 65536", "server.port", "an integer from 0 to 65535, got 65536"),
        ("[server]\nport = true", "server.port", "got a boolean"),
        ("[server]\nport = 80.5", "server.port", "got 80.5"),
        ("[server]\nhost = 1", "server.host", "a non-empty string, got 1"),
        ('[server]\nhost = ""', "server.host", 'got ""'),
        ('[server]\nallow_open = "yes"', "server.allow_open", "true or false"),
        ('[server]\nheader_timeout = "soon"', "server.header_timeout", "a duration"),
        ('[server]\nheader_timeout = "11m"', "server.header_timeout", "from 100ms to 10m"),
        ('[server]\nheader_timeout = "off"', "server.header_timeout", "a duration"),
        ('[server]\nmax_body = "1kB"', "server.max_body", "from 1KiB to 1GiB"),
        ("[server]\nkeep_alive = 2026-01-01", "server.keep_alive", "got a date or time"),
        ('server = "x"', "server", "a table"),
        ('[server]\ncors_origins = "x"', "server.cors_origins", "a list"),
        ("[server]\ncors_origins = [1]", "server.cors_origins[0]", "a string"),
        ('[logging]\nlevel = "warn"', "logging.level", '"warning"'),
        (LAB + 'refuses = { chta = ["n"] }', "providers.lab.refuses.chta", "the keys here are"),
        (LAB + "timeouts = { idle = 0 }", "providers.lab.timeouts.idle", "from 1ms"),
        ("[[keys]]\nname = 'a'", "keys[0].secret", "is missing"),
        ("keys = [3]", "keys[0]", "a table"),
        (LAB + "credentials = [3]", "providers.lab.credentials[0]", "a string, not an integer"),
        (f"[[keys]]\nname = '{'x' * 65}'\nsecret = '{KEY}'", "keys[0].name", "longer than 64"),
    ],
)
def test_a_value_of_the_wrong_kind_says_what_is_right(text: str, path: str, words: str) -> None:
    problem = only(text)
    assert problem.path == path
    assert words in problem.message


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("[server]\nport = 1\nport = 2", 3, "is not TOML"),
        ("[server\nport = 1", 1, "is not TOML"),
        ('[server]\nhost = "', 2, "is not TOML"),
    ],
)
def test_what_is_not_toml_says_where(text: str, line: int, words: str) -> None:
    problem = only(text)
    assert problem.line == line
    assert words in problem.message


def test_nesting_without_end_is_a_problem_and_no_crash() -> None:
    assert only("a = " + "[" * 100_000).message


def test_a_file_of_other_bytes_is_named(tmp_path: Path) -> None:
    path = tmp_path / "tidegate.toml"
    path.write_bytes(b"[server]\nhost = '\xff'")
    with pytest.raises(ConfigInvalid) as caught:
        load_file(str(path), {})
    assert (caught.value.problems[0].line, caught.value.problems[0].message) == (2, "is not UTF-8 text")


def test_a_missing_variable_is_named_with_its_place() -> None:
    problem = only(LAB + 'credentials = ["${NOT_THERE}"]')
    assert (problem.path, problem.line) == ("providers.lab.credentials[0]", 3)
    assert problem.message == "the environment variable NOT_THERE is not set"


def test_a_reference_without_a_name_is_refused() -> None:
    assert "name of an environment variable" in only(LAB + 'headers = { x = "${}" }').message


@pytest.mark.security("SEC-LOG-CONFIG")
def test_what_came_from_the_environment_is_never_quoted() -> None:
    problem = only('[server]\nport = "${PORT_NAME}"\n')
    assert "canary" not in problem.render("tidegate.toml")


@pytest.mark.parametrize("line", ["[defaults]\nmodel", "[server]\nhost", "[models.m]\ntarget", "[logging]\nlevel"])
def test_a_secret_in_the_wrong_place_is_named_by_its_variable(line: str) -> None:
    problem = only(f'{line} = "${{K}}/x"')
    assert KEY not in problem.render("t")


@pytest.mark.security("SEC-API8-SECRETS")
@pytest.mark.parametrize(
    "secret", ["q8-Zk", "change-me-change-me-change-me-change-me", "a" * 40, KEY + " x", KEY + "é"]
)
def test_a_weak_key_is_refused_and_not_quoted(secret: str) -> None:
    problem = only("[[keys]]\nname = 'a'\nsecret = '${S}'", {"S": secret})
    assert problem.path == "keys[0].secret"
    assert secret not in problem.render("")


@pytest.mark.parametrize("digest", ["sha256:", "sha256:abc", "sha256:" + "G" * 64, "sha256:" + "a" * 63])
def test_a_digest_that_is_none_is_refused(digest: str) -> None:
    assert "64 hexadecimal digits" in only(f"[[keys]]\nname = 'a'\nsecret = '{digest}'").message


def test_keys_differ_in_name_and_secret() -> None:
    text = f"[[keys]]\nname = 'a'\nsecret = '{KEY}'\n" * 2
    assert [problem.path for problem in problems_of(text)] == ["keys[1].name", "keys[1].secret"]


def test_a_key_and_the_digest_of_the_same_key_are_the_same_secret() -> None:
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    text = f"[[keys]]\nname = 'a'\nsecret = '{KEY}'\n[[keys]]\nname = 'b'\nsecret = 'sha256:{digest}'"
    assert only(text).path == "keys[1].secret"


def test_a_key_that_fails_leaves_the_numbers_of_the_others() -> None:
    text = f"[[keys]]\nname = 'a'\n[[keys]]\nname = 'b'\nsecret = 'short'\n[[keys]]\nname = 'c'\nsecret = '{KEY}'"
    assert [problem.path for problem in problems_of(text)] == ["keys[0].secret", "keys[1].secret"]


@pytest.mark.security("SEC-API8-BIND")
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.com", ""])
@pytest.mark.row("S9")
def test_an_address_that_others_reach_needs_a_key_or_a_word(host: str) -> None:
    problem = only(f"[server]\nhost = '{host}'")
    assert problem.path == "server.host"
    if host:
        assert "[[keys]]" in problem.message
        assert "server.allow_open = true" in problem.message
        assert "TIDEGATE_KEY" in problem.message
        load(f"[server]\nhost = '{host}'\nallow_open = true", "t", {})
        load(f"[server]\nhost = '{host}'\n[[keys]]\nname = 'a'\nsecret = '{KEY}'", "t", {})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost", "LOCALHOST", "::ffff:127.0.0.1"])
def test_this_machines_own_addresses_are_open(host: str) -> None:
    load(f"[server]\nhost = '{host}'", "t", {})


@pytest.mark.parametrize("origin", ["*", "example.com", "https://a.example/", "https://u@a.example", "ftp://a.example"])
def test_an_origin_is_scheme_and_host(origin: str) -> None:
    assert only(f"[server]\ncors_origins = ['{origin}']").path == "server.cors_origins[0]"


def test_a_value_of_the_environment_is_reported_under_its_name() -> None:
    problem = only("[server]\nport = 1", {"TIDEGATE_PORT": "http"})
    assert problem.render("tidegate.toml").startswith(
        "environment TIDEGATE_PORT: server.port: expected an integer from 0 to 65535"
    )
    assert only("[server]\nport = -1", {"TIDEGATE_PORT": "70000"}).origin == "environment TIDEGATE_PORT"
    assert ConfigInvalid([problem], "tidegate.toml").render().startswith("the configuration has 1 problem:")
    problem = only("[server]\nport = 1", {"TIDEGATE_HOST": "0.0.0.0"})
    assert problem.render("tidegate.toml").startswith("environment TIDEGATE_HOST: server.host: ")
    problem = only("", {"TIDEGATE_KEY": "short"})
    assert problem.render("t").startswith("environment TIDEGATE_KEY: keys[0].secret: is shorter")
    problem = only("[server]\nport = 1", {}, command_line={"server.port": 70000})
    assert problem.render("tidegate.toml").startswith("command line: server.port: ")


def test_an_amount_of_money_that_is_too_high_names_the_highest() -> None:
    problem = only('[prices."openai/gpt-5.2"]\ninput = 5000000\n')
    assert "from 0 to 1000000" in problem.message
    assert problem.message.endswith("got 5000000")


def test_an_unknown_kind_names_the_nearest_or_all() -> None:
    assert only("[providers.x]\nkind = 'olama'").nearest == "ollama"
    assert "openai, anthropic, openrouter" in only("[providers.x]\nkind = 'zzz'").message


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("10.0.0.5:8000/v1", "begins with"),
        ("ftp://h/v1", "begins with"),
        ("http:///v1", "begins with"),
        ("http://h:99999/v1", "begins with"),
        ("http://h/v1 x", "begins with"),
        ("http://h/v1\\r\\nx", "begins with"),
        ("http://user:canary@h/v1", "user or password"),
        ("http://h/v1?key=canary", "query"),
        ("http://h/v1#x", "query"),
        ("http://h/v1/chat/completions", "names an endpoint"),
        ("http://h/v1/responses/", "names an endpoint"),
    ],
)
def test_a_wrong_address_says_why_and_is_not_quoted(address: str, words: str) -> None:
    problem = only(f'[providers.lab]\nbase_url = "{address}"')
    assert problem.path == "providers.lab.base_url"
    assert words in problem.message
    assert "canary" not in problem.message


def test_a_server_without_an_address_is_refused() -> None:
    assert "openai-compatible" in only("[providers.lab]").message


@pytest.mark.security("SEC-DOS-LOOP")
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_calls_do_not_come_back_to_tidegate_itself(host: str) -> None:
    problem = only(f"[providers.lab]\nbase_url = 'http://{host}:8080/v1'")
    assert "own address" in problem.message
    assert only("[providers.llamacpp]").path == "providers.llamacpp.base_url"
    load("[server]\nport = 8090\n[providers.llamacpp]", "t", {})


def test_a_provider_that_needs_a_credential_says_which_variable() -> None:
    problem = only("[providers.openai]", {})
    assert "OPENAI_API_KEY" in problem.message


@pytest.mark.parametrize(
    ("credentials", "path"),
    [
        ('[""]', "credentials[0]"),
        ('["a", "a"]', "credentials[1]"),
        ('["a b"]', "credentials[0]"),
        ('["a\\r\\nx: y"]', "credentials[0]"),
        ('["ключ"]', "credentials[0]"),
    ],
)
def test_a_credential_is_one_word_and_stands_once(credentials: str, path: str) -> None:
    assert only(LAB + f"credentials = {credentials}").path == f"providers.lab.{path}"


@pytest.mark.security("SEC-INJ-CONFIG")
@pytest.mark.parametrize(
    "headers",
    [
        '{ "x y" = "1" }',
        '{ "" = "1" }',
        '{ x = "a\\r\\nb" }',
        '{ x = "a\\u0000" }',
        '{ x = "中" }',
        '{ Host = "h" }',
        '{ Content-Length = "1" }',
        '{ X = "1", x = "2" }',
    ],
)
def test_a_header_cannot_smuggle(headers: str) -> None:
    assert only(LAB + f"headers = {headers}").path.startswith("providers.lab.headers.")


@pytest.mark.parametrize(
    "line",
    [
        'proxy = "socks5://h:1"',
        'proxy = "h:1"',
        'paths = { chat = "chat" }',
        'paths = { chat = "/a b" }',
        "speaks = []",
        'speaks = ["chat", "chat"]',
        'models = ["a b"]',
        'models = [""]',
        'credentials_file = "keys"',
    ],
)
def test_what_a_provider_cannot_use_is_refused(line: str) -> None:
    assert only(LAB + line).path.startswith(f"providers.lab.{line.split(' ')[0]}")


def test_a_provider_has_a_name_that_can_stand_before_a_slash() -> None:
    assert only('[providers."a/b"]\nbase_url = "http://h/v1"').path == 'providers."a/b"'


def test_credentials_stand_in_one_place(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    path.write_text(LAB + 'credentials = ["a"]\ncredentials_file = "keys"', encoding="utf-8")
    with pytest.raises(ConfigInvalid, match="keep one of the two"):
        load_file(str(path), {})


def test_files_that_cannot_be_used_are_all_named(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("# none\n", encoding="utf-8")
    (tmp_path / "bytes").write_bytes(b"\xff")
    path = tmp_path / "t.toml"
    path.write_text(
        '[providers.a]\nbase_url = "http://h/v1"\ncredentials_file = "nowhere"\nca_bundle = "nothing.pem"\n'
        '[providers.b]\nbase_url = "http://h/v1"\ncredentials_file = "empty"\n'
        '[providers.c]\nbase_url = "http://h/v1"\ncredentials_file = "bytes"\n',
        encoding="utf-8",
    )
    with pytest.raises(ConfigInvalid) as caught:
        load_file(str(path), {})
    assert [(problem.path, problem.line) for problem in caught.value.problems] == [
        ("providers.a.credentials_file", 3),
        ("providers.a.ca_bundle", 4),
        ("providers.b.credentials_file", 7),
        ("providers.c.credentials_file", 10),
    ]


@pytest.mark.parametrize(
    ("text", "path", "guess"),
    [
        ('[defaults]\nmodel = "opnai/gpt-5"', "defaults.model", "openai/gpt-5"),
        ('[defaults]\nmodel = "openai/"', "defaults.model", ""),
        ('[models.m]\ntarget = "gpt-5"', "models.m.target", ""),
        (
            '[models.m]\ntargets = [{ model = "lab/gwen3" }]\nfallback = ["labb/qwen3"]',
            "models.m.fallback[0]",
            "lab/qwen3",
        ),
        (f"[[keys]]\nname = 'a'\nsecret = '{KEY}'\nmodel = 'x/y'", "keys[0].model", ""),
        (f"[[keys]]\nname = 'a'\nsecret = '{KEY}'\nmodels = ['openai/*', 'x/y']", "keys[0].models[1]", ""),
        ("[models.m]", "models.m", ""),
        ('[models.m]\ntarget = "openai/a"\ntargets = [{ model = "openai/b" }]', "models.m.target", ""),
        ('[models.m]\ntargets = [{ model = "openai/a", weight = 0 }]', "models.m.targets", ""),
        ('[models."a b"]\ntarget = "openai/a"', 'models."a b"', ""),
        ('[models.m]\ntarget = "m"', "models.m", ""),
        ('[models.a]\ntarget = "b"\n[models.b]\ntarget = "openai/x"\nfallback = ["a"]', "models.a", ""),
    ],
)
def test_a_model_name_leads_somewhere(text: str, path: str, guess: str) -> None:
    problem = only("[providers.openai]\n" + LAB + 'models = ["qwen3"]\n' + text)
    assert (problem.path, problem.nearest) == (path, guess)


@pytest.mark.parametrize("name", ["gpt-5", "openai/anything/at-all", "qwen3", "lab/qwen3", "Qwen/Qwen3-8B", "m"])
def test_aliases_known_models_prefixed_and_bare_names_are_taken(name: str) -> None:
    text = f'[defaults]\nmodel = "{name}"\n[providers.openai]\n' + LAB + 'models = ["qwen3", "Qwen/Qwen3-8B"]\n'
    load(text + '[models.m]\ntarget = "openai/gpt-5"', "t", ENV)


def test_aliases_may_share_a_target_and_follow_one_another() -> None:
    aliases = '[models.a]\ntarget = "b"\nfallback = ["c"]\n[models.b]\ntarget = "c"\n[models.c]\ntarget = "openai/x"'
    load("[providers.openai]\n" + aliases, "t", ENV)


def test_a_circle_of_aliases_is_drawn() -> None:
    aliases = '[models.a]\ntarget = "b"\n[models.b]\ntarget = "c"\n[models.c]\ntarget = "a"'
    assert "a → b → c → a" in only("[providers.openai]\n" + aliases).message


def test_the_simulator_is_not_the_default_beside_a_real_provider() -> None:
    text = '[defaults]\nmodel = "sim/demo"\n[providers.sim]\n'
    load(text, "t", {})
    assert only(text + LAB).path == "defaults.model"


def test_a_fault_does_not_bring_others_that_only_follow_from_it() -> None:
    only("[providers.x]\nkind = 'olama'\nbase_url = ''")
    only("[server]\nhost = 1")
    only(LAB + 'speaks = ["chatt", "chattt"]'.replace(', "chattt"', ""))


def test_the_nearest_name_ignores_case_and_gives_up_on_strangers() -> None:
    assert nearest("OpenAI", ["openai", "ollama"]) == "openai"
    assert nearest("qqqq", ["openai"]) == ""


def test_a_path_is_written_as_toml_has_it() -> None:
    assert join(join("models", "gpt-5.2"), "targets") == 'models."gpt-5.2".targets'
    assert join("", "a") == "a"
    assert join("a", 'q"') == 'a."q\\""'
