import pytest

from hand_perception.runtime.processor import has_int8_dot_product


@pytest.mark.parametrize(
    "line, expected",
    [
        ("flags\t\t: fpu sse4_2 avx2 avx512f avx512_vnni", True),
        ("flags\t\t: fpu sse4_2 avx2 avx_vnni", True),
        ("flags\t\t: fpu sse4_2 avx2 avx512f", False),
        ("Features\t: fp asimd evtstrm asimddp", True),
        ("Features\t: fp asimd evtstrm", False),
        ("model name\t: avx512_vnni", False),
        ("", False),
    ],
)
def test_what_linux_says_of_a_processor(tmp_path, line, expected):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\n{line}\n\nprocessor\t: 1\n{line}\n")
    assert has_int8_dot_product(cpuinfo) is expected


def test_where_linux_says_nothing(tmp_path):
    assert has_int8_dot_product(tmp_path / "missing") is False
