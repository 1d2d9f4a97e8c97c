from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import pytest

import hand_perception
from hand_perception import cli
from hand_perception.errors import DataError

HEAVY = ("torch", "cyclonedds", "onnxruntime", "cv2", "numpy")


@pytest.fixture
def command(monkeypatch):
    """Registers a command whose run is the given function; the module stands in for a real one."""

    def register(run, extra: str = "train") -> None:
        module = ModuleType("hand_perception.in_test")
        module.add_arguments = lambda parser: parser.add_argument("--size", type=int, default=1)
        module.run = run
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(cli.COMMANDS, "probe", cli.Command("a probe", module.__name__, extra))

    return register


def test_status_and_arguments_go_through(command):
    command(lambda args: args.size)
    assert cli.main(["probe"]) == 1
    assert cli.main(["probe", "--size", "7"]) == 7


def test_package_errors_are_one_line_and_status_2(command, capsys):
    def run(args):
        raise DataError("labels.jsonl is missing:\n point --data at it")

    command(run)
    assert cli.main(["probe"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "hand-perception: labels.jsonl is missing: point --data at it\n"


@pytest.mark.parametrize(
    ("missing", "cure"),
    [("torch", "pip install 'hand_perception[train]'"), ("rclpy", "source a ROS 2 workspace")],
)
def test_missing_optional_dependency_names_its_cure(missing, cure, command, capsys):
    def run(args):
        raise ModuleNotFoundError(f"No module named '{missing}'", name=missing)

    command(run)
    assert cli.main(["probe"]) == 2
    err = capsys.readouterr().err
    assert missing in err and cure in err
    assert err.count("\n") == 1


def test_a_missing_module_of_our_own_is_not_blamed_on_the_user(command):
    def run(args):
        raise ModuleNotFoundError("No module", name="hand_perception.nowhere")

    command(run)
    with pytest.raises(ModuleNotFoundError):
        cli.main(["probe"])


def test_bugs_keep_their_traceback(command):
    def run(args):
        raise ZeroDivisionError

    command(run)
    with pytest.raises(ZeroDivisionError):
        cli.main(["probe"])


def test_interrupt_is_130(command, capsys):
    def run(args):
        raise KeyboardInterrupt

    command(run)
    assert cli.main(["probe"]) == 130
    assert capsys.readouterr().err == ""


def test_version(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.strip() == hand_perception.__version__


@pytest.mark.parametrize("argv", [[], ["no-such-command"], ["predict", "--no-such-option"]])
def test_usage_errors(argv, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(argv)
    assert caught.value.code == 2
    assert "usage: hand-perception" in capsys.readouterr().err


def test_help_lists_each_command(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    out = capsys.readouterr().out
    for name, command in cli.COMMANDS.items():
        assert f"  {name} " in out and command.help in out


def test_the_parser_imports_nothing_heavy():
    script = (
        "import sys\nfrom hand_perception import cli\n"
        "try: cli.main(['--help'])\nexcept SystemExit: pass\n"
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stderr.strip() == "[]", done.stderr
