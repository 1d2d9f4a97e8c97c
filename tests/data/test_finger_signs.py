import pytest

from hand_perception.data.finger_signs import stretched_fingers


@pytest.mark.parametrize(
    "where, fingers",
    [
        (("rf_asl_letters", "ASL/train/images/W12_jpg.rf.0a.jpg"), "1110"),
        (("rf_signify", "Sign-Language-1/test/images/Y25_jpg.rf.2a.jpg"), "0001"),
        (("rps_cv", "rps_cv/data/scissors/c5vx.png"), "1100"),
        (("sld2062", "sld2062/Dataset/8/IMG_4427.JPG"), "1011"),
    ],
)
def test_the_path_names_the_sign(where, fingers):
    assert stretched_fingers(*where) == tuple(finger == "1" for finger in fingers)


@pytest.mark.parametrize(
    "where",
    [
        ("rf_asl_letters", "ASL/train/images/O3_jpg.rf.1b.jpg"),  # a letter of bent fingers
        ("sld2062", "sld2062/Dataset/0/IMG_1118.JPG"),
        ("sld2062", ""),
        ("subhih_hands", "subhih_hands/images/W12_jpg.jpg"),  # another set
    ],
)
def test_other_pictures_say_nothing(where):
    assert stretched_fingers(*where) is None
