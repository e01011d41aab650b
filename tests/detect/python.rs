//! Python's projects: manifests of every age, and what their tests need.

use super::{detected, files, shown};

#[test]
fn python_with_groups_and_tox() {
    insta::assert_snapshot!(shown(&[
        ("pyproject.toml", r#"[project]
name = "lib"
requires-python = ">=3.9"
dependencies = ["blinker"]
classifiers = [
  "Programming Language :: Python :: 3.11",
  "Programming Language :: Python :: 3.12",
]
[build-system]
requires = ["hatchling", "hatch-vcs"]
build-backend = "hatchling.build"
[dependency-groups]
dev = ["ruff", { include-group = "tests" }]
tests = ["pytest", "trio"]
docs = ["sphinx"]
[tool.pytest.ini_options]
addopts = "-n auto"
"#),
        ("tox.ini", "[tox]\nenvlist = py3{11,13},style\n[testenv]\ndeps =\n    -r {toxinidir}/requirements/ci.txt\n    py39: backports\ncommands = pytest {posargs}\n"),
        ("requirements/ci.txt", "-r base.txt\ncoverage\n"),
        ("requirements/base.txt", "six\n"),
        ("tests/test_it.py", "import pytest\n"),
        ("uv.lock", "version = 1\n"),
    ]), @r#"
    python >=3.11 <3.14 (firm >=3.9)
        Manifest pyproject.toml:3 requires-python ">=3.9"
        Tested pyproject.toml:6 Programming Language :: Python :: 3.11
        Tested pyproject.toml:7 Programming Language :: Python :: 3.12
        Tested tox.ini:2 py311
        Tested tox.ini:2 py313
        Default pyproject.toml:1 a Python project
    uv * pinned
        Default pyproject.toml:1 installs Python projects
    Python . uv uv.lock
        inputs pyproject.toml, requirements/base.txt, requirements/ci.txt, uv.lock
        groups tests
        files requirements/base.txt, requirements/ci.txt
        packages pytest-xdist
        installable, version from git
    test: pytest
    build: uv build
    "#);
}

#[test]
fn what_python_is_built_with_and_imports_is_installed() {
    let found = detected(&files(&[
        (
            "pyproject.toml",
            "[project]\nname = \"fast\"\n[build-system]\nrequires = [\"setuptools >= 66.1\", \
             \"cython\"]\n",
        ),
        ("src/fast/__init__.py", ""),
        ("src/fast/_compile.py", "try:\n    import setuptools\nexcept ImportError:\n    raise\n"),
        ("tests/test_fast.py", "import pytest\n"),
    ]));
    assert_eq!(found.projects[0].packages, ["pytest", "setuptools >= 66.1"]);
}

#[test]
fn a_program_of_the_projects_own_runs_its_tests() {
    let test = |program: &str| {
        let found = detected(&files(&[
            ("setup.py", "setup(name='x')"),
            ("test.py", program),
            ("src/x/tests/test_a.py", "import unittest\n"),
        ]));
        found.run.test
    };
    let starts = "import unittest\nif __name__ == '__main__':\n    main()\n";
    assert_eq!(test(starts).as_deref(), Some("python test.py"));
    assert_eq!(test("import unittest\n").as_deref(), Some("python -m unittest"));
}

#[test]
fn python_of_the_old_days() {
    insta::assert_snapshot!(shown(&[
        ("setup.py", r#"from setuptools import setup, Extension
setup(
    name="old",
    use_scm_version=True,
    python_requires='>=3.6, !=3.7.*',
    ext_modules=[Extension("old._speed", ["speed.c"])],
    extras_require={"test": ["nose", "mock"], "doc": ["sphinx"]},
)
"#),
        ("setup.cfg", "[options]\ntests_require =\n    mock>=2\n"),
        ("runtime.txt", "python-3.11.9\n"),
        ("tests/test_it.py", "import unittest\n"),
    ]), @r#"
    cc * pinned
        Default setup.py:6 ext_modules
    make * pinned
        Default setup.py:6 ext_modules
    python 3.11.9 pinned
        Pin runtime.txt:1 python-3.11.9
        Manifest setup.py:5 python_requires ">=3.6, !=3.7.*"
        Default setup.py:1 a Python project
    uv * pinned
        Default setup.py:1 installs Python projects
    Python . pip -
        inputs setup.cfg, setup.py
        extras test
        packages mock>=2
        installable, native, version from git
    test: python -m unittest discover -s tests
    build: uv build
    "#);
}

#[test]
fn poetry_and_what_is_only_development() {
    insta::assert_snapshot!(shown(&[
        ("pyproject.toml", r#"[tool.poetry]
name = "app"
package-mode = false
[tool.poetry.dependencies]
python = "^3.11"
fastapi = {version = "^0.115", extras = ["standard"]}
local = {path = "../local"}
[tool.poetry.group.dev.dependencies]
pytest = "^8.1"
black = "*"
"#),
        ("poetry.lock", ""),
        ("main.py", ""),
        ("test_main.py", "def test_it():\n    assert True\n"),
    ]), @r#"
    python >=3.11 <4
        Manifest pyproject.toml:5 poetry python "^3.11"
        Default pyproject.toml:1 a Python project
    uv * pinned
        Default pyproject.toml:1 installs Python projects
    Python . poetry poetry.lock
        inputs poetry.lock, pyproject.toml
        groups dev
        packages fastapi[standard]==0.115.*
    test: pytest
    start: python main.py
    "#);
}

#[test]
fn an_application_with_requirements_only() {
    insta::assert_snapshot!(shown(&[
        ("requirements.txt", "flask==3.0\n"),
        ("requirements-dev.txt", "-r requirements.txt\npytest\n"),
        ("requirements-docs.txt", "sphinx\n"),
        ("app.py", ""),
        (".python-version", "3.12\n"),
        ("Procfile", "web: gunicorn app:app\n"),
    ]), @"
    python 3.12 pinned
        Pin .python-version:1 3.12
        Default requirements.txt:1 a Python project
    uv * pinned
        Default requirements.txt:1 installs Python projects
    Python . pip -
        inputs requirements-dev.txt, requirements.txt
        files requirements-dev.txt, requirements.txt
    start: gunicorn app:app
    ");
}

#[test]
fn pdm_and_pipenv_with_their_locks() {
    insta::assert_snapshot!(shown(&[
        ("pyproject.toml", r#"[project]
name = "a"
requires-python = ">=3.11"
dependencies = ["x"]
[tool.pdm.dev-dependencies]
test = ["t"]
[tool.pdm.scripts]
test = "python -m unittest"
"#),
        ("pdm.lock", ""),
    ]), @r#"
    python >=3.11
        Manifest pyproject.toml:3 requires-python ">=3.11"
        Default pyproject.toml:1 a Python project
    uv * pinned
        Default pyproject.toml:1 installs Python projects
    Python . pdm pdm.lock
        inputs pdm.lock, pyproject.toml
        packages t
    test: python -m unittest
    "#);
    insta::assert_snapshot!(shown(&[
        ("Pipfile", "[packages]\nx = \"*\"\ny = {version = \">=1\", extras = [\"z\"]}\n[dev-packages]\npytest = \"~=8.0\"\n[requires]\npython_version = \"3.11\"\n"),
        ("Pipfile.lock", "{}"),
        ("test_a.py", "import pytest\n"),
    ]), @r#"
    python 3.11 pinned
        Pin Pipfile:7 python_version "3.11"
        Default Pipfile:1 a Python project
    uv * pinned
        Default Pipfile:1 installs Python projects
    Python . pipenv Pipfile.lock
        inputs Pipfile, Pipfile.lock
        packages pytest~=8.0, x, y[z]>=1
    test: pytest
    "#);
}

#[test]
fn env_toml_asks_for_packages_besides() {
    let asked = (".zagi/env.toml", "[dependencies]\npython = [\"PyYAML\", \"numpy>=2\"]\n");
    let found = detected(&files(&[("requirements.txt", "six\n"), asked]));
    assert_eq!(found.projects[0].packages, ["PyYAML", "numpy>=2"]);
    assert_eq!(found.spec.dependencies.python, ["PyYAML", "numpy>=2"]);
    let found = detected(&files(&[asked]));
    assert!(found.notes[0].text.contains("there is no Python project"), "{:?}", found.notes);
}

#[test]
fn python_with_tests_beside_packages_and_variables_of_tox() {
    insta::assert_snapshot!(shown(&[
        ("setup.py", "setup(name='fast', ext_modules=[Extension('fast', ['py/fast.c'])])\n"),
        ("tox.ini", "[testenv]\nsetenv =\n  FAST_EXPERIMENTAL = 1\n  FAST_CACHE = {envtmpdir}\n  py39: FAST_OLD=1\n  LD_PRELOAD=x.so\ncommands = pytest --cov=fast {posargs:py/tests} none\n"),
        ("py/fast.c", ""),
        ("py/tests/test_fast.py", "import pytest\n"),
    ]), @"
    cc * pinned
        Default setup.py:1 ext_modules
    make * pinned
        Default setup.py:1 ext_modules
    python *
        Default setup.py:1 a Python project
    uv * pinned
        Default setup.py:1 installs Python projects
    env FAST_EXPERIMENTAL=1
    Python . pip -
        inputs setup.py
        packages pytest
        installable, native
    test: pytest py/tests
    build: uv build
    ");
}

#[test]
fn unittest_begins_where_the_tests_are() {
    let setup = ("setup.py", "setup(name='own')\n");
    let test = "import unittest\n\nclass Test(unittest.TestCase):\n    def test(self): pass\n";
    let command = |all: &[(&str, &str)]| {
        let found = shown(all);
        found.lines().find_map(|l| l.strip_prefix("test: ").map(str::to_owned)).unwrap_or_default()
    };
    let init = |path| (path, "");
    assert_eq!(
        command(&[
            setup,
            init("src/own/__init__.py"),
            init("src/own/tests/__init__.py"),
            ("src/own/tests/test_it.py", test)
        ]),
        "python -m unittest discover -s src/own/tests -t src"
    );
    assert_eq!(
        command(&[setup, ("tests/test_it.py", test)]),
        "python -m unittest discover -s tests"
    );
    assert_eq!(
        command(&[setup, init("tests/__init__.py"), ("tests/test_it.py", test)]),
        "python -m unittest"
    );
    assert_eq!(
        command(&[
            setup,
            init("own/__init__.py"),
            init("own/tests/__init__.py"),
            ("own/tests/test_it.py", test)
        ]),
        "python -m unittest"
    );
}
