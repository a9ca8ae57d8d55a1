import io
import re
import time
import tracemalloc
import zipfile

import numpy as np
import pytest
from hostile import archive, encode, gif, hostile, tiff
from PIL import Image

from unlike.errors import ServiceError
from unlike.serving.uploads import Limits, check_image, check_name, decode_upload, is_zip, read_zip

LIMITS = Limits(files=1_000, file_bytes=2_000_000, unpacked_bytes=10_000_000)
HOSTILE = hostile()


def take(name, content):
    """As the service takes an upload."""
    if is_zip(content):
        return [decode_upload(name, part, LIMITS) for name, part in read_zip(io.BytesIO(content), LIMITS)]
    return [decode_upload(name, content, LIMITS)]


def test_there_are_at_least_sixty():
    assert len(HOSTILE) >= 60


@pytest.mark.parametrize("which", HOSTILE)
def test_what_nobody_should_send_is_refused_with_a_sentence(which):
    name, content, words = HOSTILE[which]
    tracemalloc.start()
    started = time.thread_time()
    with pytest.raises(ServiceError) as error:
        take(name, content)
    taken, peak = time.thread_time() - started, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert error.value.status in (413, 415, 422)
    assert re.search(words, str(error.value)), str(error.value)
    assert str(error.value).isprintable()
    assert taken < 10  # seconds of this thread, the reader's own modules loaded among them
    assert peak < 30e6  # of bytes, whatever was claimed


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "JPEG2000", "PPM", "AVIF"])
def test_images_of_the_common_kinds_are_taken(kind):
    assert take("a/b.png", encode(kind, (30, 20)))[0].shape == (20, 30, 3)


def test_a_few_pages_and_frames_are_taken():
    assert check_image("a.gif", gif(3), LIMITS).pages == 3
    assert check_image("a.tif", tiff(64), LIMITS).pages == 64
    with pytest.raises(ServiceError, match="more than 64 pages; send the pages as images of their own"):
        check_image("a.tif", tiff(65), LIMITS)
    file = io.BytesIO()
    frames = [Image.fromarray(np.full((4, 4), 40 * number, np.uint8)) for number in range(5)]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    assert check_image("a.gif", file.getvalue(), LIMITS).pages == 5


def test_what_systems_add_to_an_archive_is_left_out():
    good = encode("PNG")
    content = archive(
        ("line/a.png", good), ("__MACOSX/._a.png", b"x"), ("line/.b.png", b""), ("notes.txt", b"x"), ("x.npy", b"x"),
        ("labels.csv", b"path\n/etc/passwd"),
    )  # fmt: skip
    assert list(read_zip(io.BytesIO(content), LIMITS)) == [("line/a.png", good)]


def test_an_archive_is_read_an_image_at_a_time():
    parts = read_zip(io.BytesIO(archive(("a.png", encode("PNG")), ("b.png", b"broken"))), LIMITS)
    assert next(parts)[0] == "a.png"
    assert next(parts) == ("b.png", b"broken")  # which is refused by itself when it is decoded


def test_files_that_overlap_in_an_archive_are_refused():
    content = bytearray(archive(("a.png", encode("PNG")), ("b.png", encode("PNG"))))
    first, second = (match.start() for match in re.finditer(b"PK\1\2", bytes(content)))
    content[second + 42 : second + 46] = content[first + 42 : first + 46]  # both point at the first
    with pytest.raises(ServiceError, match="pack it again"):
        list(read_zip(io.BytesIO(bytes(content)), LIMITS))


def test_names_are_kept_with_their_folders():
    assert check_name("Linie 3/Zelle ö (1).png") == "Linie 3/Zelle ö (1).png"
    assert check_name("a\\b.png") == "a/b.png"
    assert check_name("./a.png") == "a.png"


def test_an_archive_that_is_no_file_is_refused(tmp_path):
    with pytest.raises(ServiceError, match="the archive is damaged or none"):
        list(read_zip(tmp_path / "none.zip", LIMITS))


def test_files_of_more_bytes_than_the_limit_are_refused():
    with pytest.raises(ServiceError, match="has 500 bytes, more than 100 of one image"):
        check_image("a.png", bytes(500), Limits(file_bytes=100))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("a.png", bytes(500))
    with pytest.raises(ServiceError, match="unpacks to 500 bytes, more than 100 of one image"):
        list(read_zip(file, Limits(file_bytes=100)))
