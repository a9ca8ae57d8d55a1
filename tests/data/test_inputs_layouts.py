"""What people hand over: folders of every layout and name, made on the spot, and what is understood of each."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest

from unlike.calibration.rows import cells
from unlike.cli import run
from unlike.data.readers import decode_mask
from unlike.data.source import labelled, open_source, training
from unlike.detector.detector import Detector
from unlike.errors import DataError, ImageError

DATA = Path(os.environ.get("UNLIKE_DATA", Path(__file__).parents[3] / "shared" / "data"))
GREY = np.full((6, 6), 90, np.uint8)
BLACK = np.zeros((6, 6), np.uint8)
MARKED = np.pad(np.full((2, 2), 255, np.uint8), 2)
CONTENTS = {"": GREY, "black": BLACK, "mask": MARKED}


@dataclass
class Case:
    """One input, and what is expected: ids to fit on, and of those to evaluate on the normal and the anomalous ones."""

    name: str
    files: str | list[str]  # such as "good/{1,2}.png m/1.png=mask"; of a list each is one name
    train: str | list[str] = ""
    normal: str | list[str] = ""  # of the images to evaluate on
    odd: dict[str, tuple[str, str]] = field(default_factory=dict)  # id -> its kind and its mask
    notes: tuple[str, ...] = ()  # sentences, or parts of them, that are told of the images to fit on
    told: tuple[str, ...] = ()  # the same of those to evaluate on
    error: str = ""  # what a fit says where it refuses
    texts: dict[str, str] = field(default_factory=dict)  # files that are no images
    links: dict[str, str] = field(default_factory=dict)
    open: str = ""  # what is named, below the folder
    good: str | list[str] | None = None


def expand(names):
    """`a/{1,2}.png b` as its three names."""
    if isinstance(names, list):
        return names
    found = []
    for name in names.split():
        inner = re.search(r"\{([^}]*)\}", name)
        options = inner.group(1).split(",") if inner else [""]
        found += [name[: inner.start()] + option + name[inner.end() :] if inner else name for option in options]
    return found


def bad(names, kind, masks=""):
    """Expected anomalous images of one kind, with their masks in the same order."""
    ids, found = expand(names), expand(masks)
    return {name: (kind, found[place] if found else "") for place, name in enumerate(ids)}


NOT_CERTAIN = "and no rule says for certain which images are normal. Say it with --good GLOB"

FIELD = [
    Case(
        "MVTec AD",
        "train/good/{0,1}.png test/good/2.png test/bent/{3,4}.png ground_truth/bent/{3,4}_mask.png=mask",
        train="train/good/{0,1}.png",
        normal="test/good/2.png",
        odd=bad("test/bent/{3,4}.png", "bent", "ground_truth/bent/{3,4}_mask.png"),
        notes=(
            "MVTec AD layout: 2 normal images of train; 1 normal and 2 anomalous images of test; kinds of defects: bent; 2 masks.",
            "To fit on: 2 images of train/good; 3 left aside (test/).",
        ),
        told=("To evaluate on: 3 images of test/bent, test/good; 2 left aside (train/).",),
    ),
    Case(
        "MVTec AD in capitals",
        "Train/Good/{0,1}.PNG TEST/Good/2.PNG TEST/BAD/3.PNG Ground_Truth/BAD/3_MASK.PNG=mask",
        train="Train/Good/{0,1}.PNG",
        normal="TEST/Good/2.PNG",
        odd=bad("TEST/BAD/3.PNG", "BAD", "Ground_Truth/BAD/3_MASK.PNG"),
        notes=("MVTec AD layout: 2 normal images of train",),
    ),
    Case(
        "MVTec AD, several categories",
        "nut/train/good/0.png nut/test/bent/0.png bolt/train/good/0.png bolt/test/good/1.png bolt/ground_truth/bent/9.png "
        "nut/ground_truth/bent/0_mask.png loose/0.png preview.png",
        train="{nut,bolt}/train/good/0.png",
        normal="bolt/test/good/1.png",
        odd=bad("nut/test/bent/0.png", "bent", "nut/ground_truth/bent/0_mask.png"),
        notes=(
            "categories: bolt, nut",
            "Left aside, as no part of it: 2 images (loose/0.png, preview.png).",
            "1 mask left aside, which fit no image: bolt/ground_truth/bent/9.png.",
        ),
    ),
    Case(
        "MVTec AD, two folders deep",
        "mvtec/nut/train/good/0.png mvtec/bolt/train/good/0.png mvtec/bolt/test/bent/0.png",
        train="mvtec/{nut,bolt}/train/good/0.png",
        odd=bad("mvtec/bolt/test/bent/0.png", "bent"),
        notes=("categories: mvtec/bolt, mvtec/nut",),
    ),
    Case(
        "the test folder alone",
        "test/good/0.png test/bent/1.png ground_truth/bent/1_mask.png=mask",
        open="test",
        train="good/0.png",
        normal="good/0.png",
        odd=bad("bent/1.png", "bent", "../ground_truth/bent/1_mask.png"),
    ),
    Case(
        "MVTec LOCO, a folder of masks an image",
        "train/good/{0,1}.png validation/good/2.png test/good/3.png test/logical_anomalies/{0,1}.png "
        "ground_truth/logical_anomalies/0/{000,001}.png=mask ground_truth/logical_anomalies/1/000.png=mask",
        train="train/good/{0,1}.png",
        normal="test/good/3.png",
        odd=bad("test/logical_anomalies/{0,1}.png", "logical_anomalies", "ground_truth/logical_anomalies/{0,1}"),
        notes=("MVTec LOCO layout: 2 normal images of train; 1 normal image of validation; ",),
    ),
    Case(
        "MVTec AD 2",
        "train/good/000_regular.png validation/good/001_regular.png test_public/good/000_shift_1.png test_private/000.png "
        "test_public/bad/000_regular.png test_public/ground_truth/bad/000_regular_mask.png=mask test_private_mixed/000.png",
        train="train/good/000_regular.png",
        normal="test_public/good/000_shift_1.png",
        odd=bad("test_public/bad/000_regular.png", "bad", "test_public/ground_truth/bad/000_regular_mask.png"),
        notes=(
            "MVTec AD 2 layout: ",
            "2 images without a label: test_private/000.png, test_private_mixed/000.png.",
        ),
    ),
    Case(
        "VisA, one category",
        "candle/Data/Images/Normal/{0000,0001}.JPG candle/Data/Images/Anomaly/{000,001}.JPG "
        "candle/Data/Masks/Anomaly/{000,001}.png=mask",
        texts={
            "candle/image_anno.csv": "image,label,mask\ncandle/Data/Images/Normal/0000.JPG,normal,\n"
            "candle/Data/Images/Anomaly/000.JPG,chunk of wax missing,candle/Data/Masks/Anomaly/000.png\n"
            "candle/Data/Images/Anomaly/001.JPG,,candle/Data/Masks/Anomaly/001.png\n"  # nobody said of which kind
        },
        open="candle",
        train="Data/Images/Normal/{0000,0001}.JPG",
        normal="Data/Images/Normal/{0000,0001}.JPG",
        odd={
            "Data/Images/Anomaly/000.JPG": ("chunk of wax missing", "Data/Masks/Anomaly/000.png"),
            "Data/Images/Anomaly/001.JPG": ("Anomaly", "Data/Masks/Anomaly/001.png"),
        },
        notes=("VisA layout: 2 normal and 2 anomalous images; ",),
    ),
    Case(
        "VisA, several categories",
        "{candle,fryum}/Data/Images/Normal/0.JPG {candle,fryum}/Data/Images/Anomaly/0.JPG fryum/Data/Masks/Anomaly/0.png=mask",
        train="{candle,fryum}/Data/Images/Normal/0.JPG",
        normal="{candle,fryum}/Data/Images/Normal/0.JPG",
        odd=bad("candle/Data/Images/Anomaly/0.JPG", "Anomaly")
        | bad("fryum/Data/Images/Anomaly/0.JPG", "Anomaly", "fryum/Data/Masks/Anomaly/0.png"),
        notes=(
            "categories: candle, fryum",
            "1 anomalous image without a mask, where others have one: candle/Data/Images/Anomaly/0.JPG.",
        ),
    ),
    Case(
        "VisA with its split",
        "candle/Data/Images/Normal/{0,1}.JPG candle/Data/Images/Anomaly/0.JPG candle/Data/Masks/Anomaly/0.png=mask",
        texts={
            "split_csv/1cls.csv": "object,split,label,image,mask\n"
            "candle,train,normal,candle/Data/Images/Normal/0.JPG,\n"
            "candle,test,normal,candle/Data/Images/Normal/1.JPG,\n"
            "candle,test,anomaly,candle/Data/Images/Anomaly/0.JPG,candle/Data/Masks/Anomaly/0.png\n"
        },
        train="candle/Data/Images/Normal/0.JPG",
        normal="candle/Data/Images/Normal/1.JPG",
        odd=bad("candle/Data/Images/Anomaly/0.JPG", "anomalous", "candle/Data/Masks/Anomaly/0.png"),
        notes=("VisA layout with split_csv/1cls.csv: 1 normal image of train; ",),
    ),
    Case(
        "VisA, one category below its split",
        "candle/Data/Images/Normal/{0,1}.JPG fryum/Data/Images/Normal/0.JPG",
        texts={
            "split_csv/1cls.csv": "object,split,label,image,mask\ncandle,train,normal,candle/Data/Images/Normal/0.JPG,\n"
            "candle,test,normal,candle/Data/Images/Normal/1.JPG,\nfryum,train,normal,fryum/Data/Images/Normal/0.JPG,\n"
        },
        open="candle",
        train="Data/Images/Normal/0.JPG",
        normal="Data/Images/Normal/1.JPG",
    ),
    Case(
        "VisA's split as a manifest",
        "candle/Data/Images/Normal/0.JPG candle/Data/Images/Anomaly/0.JPG candle/Data/Masks/Anomaly/0.png=mask",
        texts={
            "split_csv/1cls.csv": "object,split,label,image,mask\ncandle,train,normal,candle/Data/Images/Normal/0.JPG,\n"
            "candle,test,anomaly,candle/Data/Images/Anomaly/0.JPG,candle/Data/Masks/Anomaly/0.png\n"
        },
        open="split_csv/1cls.csv",
        train="candle/Data/Images/Normal/0.JPG",
        odd=bad("candle/Data/Images/Anomaly/0.JPG", "anomalous", "candle/Data/Masks/Anomaly/0.png"),
        notes=("Manifest: 1 normal image of train; 1 anomalous image of test; 1 mask; categories: candle.",),
    ),
    Case(
        "the folder of images, with its masks beside",
        "Data/Images/Normal/0.JPG Data/Images/Anomaly/0.JPG Data/Masks/Anomaly/0.png=mask",
        open="Data/Images",
        train="Normal/0.JPG",
        normal="Normal/0.JPG",
        odd=bad("Anomaly/0.JPG", "Anomaly", "../Masks/Anomaly/0.png"),
    ),
    Case(
        "BTAD",
        "{01,02}/train/ok/0.bmp 01/test/ok/1.bmp 01/test/ko/0.bmp 01/ground_truth/ko/0.png=mask 02/test/ko/0.png "
        "02/ground_truth/ko/0.png=mask",
        train="{01,02}/train/ok/0.bmp",
        normal="01/test/ok/1.bmp",
        odd=bad("01/test/ko/0.bmp", "ko", "01/ground_truth/ko/0.png")
        | bad("02/test/ko/0.png", "ko", "02/ground_truth/ko/0.png"),
        notes=("BTAD layout: ", "categories: 01, 02"),
    ),
    Case(
        "KolektorSDD",
        "kos01/Part{0,1}.jpg kos01/Part0_label.bmp=black kos01/Part1_label.bmp=mask kos02/Part0.jpg kos02/Part0_label.bmp=black",
        train="kos01/Part0.jpg kos02/Part0.jpg",
        normal="kos01/Part0.jpg kos02/Part0.jpg",
        odd=bad("kos01/Part1.jpg", "defect", "kos01/Part1_label.bmp"),
        notes=("Kolektor layout: 2 normal and 1 anomalous images; ",),
    ),
    Case(
        "KolektorSDD2",
        "train/{1,2}.png train/1_GT.png=black train/2_GT.png=mask test/{1,3}.png test/1_GT.png=mask test/3_GT.png=black",
        train="train/1.png",
        normal="test/3.png",
        odd=bad("test/1.png", "defect", "test/1_GT.png"),
        notes=(
            "Kolektor layout: 1 normal and 1 anomalous images of train; ",
            "To fit on: 1 image of train; 3 left aside",
        ),
    ),
    Case(
        "DAGM",
        "Class1/Train/{0575,0576}.PNG Class1/Train/Label/0576_label.PNG=mask Class1/Test/{0001,0002}.PNG "
        "Class1/Test/Label/0002_label.PNG=mask",
        texts={"Class1/Train/Label/Labels.txt": "1\n"},
        train="Class1/Train/0575.PNG",
        normal="Class1/Test/0001.PNG",
        odd=bad("Class1/Test/0002.PNG", "defect", "Class1/Test/Label/0002_label.PNG"),
        notes=("DAGM layout: ", "categories: Class1"),
    ),
    Case(
        "MPDD",
        "bracket_black/train/good/0.png bracket_black/test/good/1.png bracket_black/test/hole/0.png "
        "bracket_black/ground_truth/hole/0_mask.png=mask",
        open="bracket_black",
        train="train/good/0.png",
        normal="test/good/1.png",
        odd=bad("test/hole/0.png", "hole", "ground_truth/hole/0_mask.png"),
    ),
]


def pair(good_name, bad_name):
    """A folder for normal images beside one for anomalous ones."""
    return Case(
        f"{good_name} beside {bad_name}",
        [f"{good_name}/1.png", f"{good_name}/2.png", f"{bad_name}/3.png"],
        train=[f"{good_name}/1.png", f"{good_name}/2.png"],
        normal=[f"{good_name}/1.png", f"{good_name}/2.png"],
        odd={f"{bad_name}/3.png": (bad_name, "")},
        notes=("Folders for normal and anomalous images: 2 normal and 1 anomalous images",),
    )


NAMES = [
    pair(*names)
    for names in [
        ("normal", "abnormal"),
        ("Good", "Bad"),
        ("OK", "NG"),
        ("ok", "ko"),
        ("OK parts", "NOK parts"),
        ("pass", "FAIL"),
        ("non_defective", "defective"),
        ("Non-Defective", "Defect"),
        ("no_defect", "defects"),
        ("DefectFree", "Defective"),
        ("healthy", "diseased"),
        ("no", "yes"),
        ("Negative", "Positive"),
        ("clean", "broken"),
        ("good", "not_good"),
        ("good", "not ok"),
        ("normal_dir", "abnormal_dir"),
        ("normals", "anomalies"),
        ("0_normal", "1_abnormal"),
        ("normal_images", "anomalous images"),
        ("no_crack", "crack"),
        ("NonAnomalous", "Anomalous"),
        ("i.O.", "n.i.O."),
        ("good", "broken_large"),
        ("good", "no_screw"),
    ]
]

SPLITS = [
    Case(
        "splits as people spell them",
        "Training/Normal/1.png Validation/Normal/2.png Testing/Normal/3.png Testing/Abnormal/4.png",
        train="Training/Normal/1.png",
        normal="Testing/Normal/3.png",
        odd=bad("Testing/Abnormal/4.png", "Abnormal"),
    ),
    Case(
        "train and val, without test",
        "train/ok/1.png val/ok/2.png val/ng/3.png",
        train="train/ok/1.png",
        normal="val/ok/2.png",
        odd=bad("val/ng/3.png", "ng"),
    ),
    Case(
        "split and label in one name",
        "train_good/1.png test_good/2.png test_bad/3.png",
        train="train_good/1.png",
        normal="test_good/2.png",
        odd=bad("test_bad/3.png", "test_bad"),
    ),
    Case(
        "splits below labels",
        "good/train/1.png good/test/2.png bad/test/3.png",
        train="good/train/1.png",
        normal="good/test/2.png",
        odd=bad("bad/test/3.png", "bad"),
    ),
    Case(
        "categories below splits",
        "train/{nut,bolt}/good/1.png test/nut/good/2.png test/nut/bent/3.png",
        train="train/{nut,bolt}/good/1.png",
        normal="test/nut/good/2.png",
        odd=bad("test/nut/bent/3.png", "bent"),
        notes=("categories: bolt, nut",),
    ),
    Case(
        "a defect in the folder to train on",
        "train/good/1.png train/defect/2.png test/good/3.png",
        train="train/good/1.png",
        normal="test/good/3.png",
        notes=("To fit on: 1 image of train/good; 2 left aside (test/, train/defect).",),
    ),
    Case(
        "loose images to train on",
        "train/{1,2}.png test/good/3.png test/bad/4.png readme/5.png",
        train="train/{1,2}.png",
        normal="test/good/3.png",
        odd=bad("test/bad/4.png", "bad"),
        notes=("2 unlabelled images of train", "Left aside, as no part of it: 1 image (readme/5.png)."),
    ),
    Case(
        "a category with defects alone",
        "nut/good/1.png nut/bad/2.png bolt/bad/3.png",
        train="nut/good/1.png",
        normal="nut/good/1.png",
        odd=bad("nut/bad/2.png bolt/bad/3.png", "bad"),
        notes=("categories: bolt, nut",),
    ),
    Case("train alone", "train/images/{1,2}.png", train="train/images/{1,2}.png"),
    Case(
        "nobody knows",
        "good/1.png bad/2.png unlabelled/3.png",
        train="good/1.png",
        normal="good/1.png",
        odd=bad("bad/2.png", "bad"),
        notes=("1 image without a label: unlabelled/3.png.",),
    ),
    Case(
        "names that contradict each other",
        "good/1.png good/ng/2.png bad/3.png",
        train="good/1.png",
        normal="good/1.png",
        odd=bad("bad/3.png", "bad"),
        notes=("1 image without a label: good/ng/2.png.",),
    ),
    Case("no normal image at all", "defective/{1,2}.png", error="no image of 2 is normal and outside a test split"),
    Case(
        "a test folder alone",
        "test/good/1.png test/bad/2.png",
        error="no image of 2 is normal and outside a test split",
    ),
]

MASKS = [
    Case(
        "masks in one folder for all kinds",
        "good/1.png bent/{2,3}.png cut/4.png masks/{2,4}.png=mask",
        train="good/1.png",
        normal="good/1.png",
        odd=bad("bent/{2,3}.png", "bent")
        | {"bent/2.png": ("bent", "masks/2.png"), "cut/4.png": ("cut", "masks/4.png")},
        notes=("1 anomalous image without a mask, where others have one: bent/3.png.",),
    ),
    Case(
        "a mask that may be of either of two",
        "good/1.png bent/2.png cut/2.png masks/2.png=mask",
        train="good/1.png",
        normal="good/1.png",
        odd=bad("bent/2.png", "bent") | bad("cut/2.png", "cut"),
        notes=("1 mask left aside, which fit no image: masks/2.png.",),
    ),
    Case(
        "masks within the folder of the defects",
        "good/1.png bad/2.png bad/masks/2.png=mask",
        train="good/1.png",
        normal="good/1.png",
        odd=bad("bad/2.png", "bad", "bad/masks/2.png"),
    ),
    Case(
        "masks beside the images",
        "good/1.png bad/{2,3}.jpg bad/2_mask.png=mask bad/3-mask.BMP=mask",
        train="good/1.png",
        normal="good/1.png",
        odd=bad("bad/2.jpg", "bad", "bad/2_mask.png") | bad("bad/3.jpg", "bad", "bad/3-mask.BMP"),
    ),
    Case(
        "every ending and format",
        "train/good/0.png test/bad/{a,b,c,d,e,f,g}.jpg ground_truth/bad/a_mask.png=mask ground_truth/bad/b_gt.bmp=mask "
        "ground_truth/bad/c_GT.tif=mask ground_truth/bad/d-mask.PNG=mask ground_truth/bad/e.mask.png=mask "
        "ground_truth/bad/F_label.jpg=mask ground_truth/bad/g.webp=mask",
        train="train/good/0.png",
        odd={
            f"test/bad/{name}.jpg": ("bad", f"ground_truth/bad/{mask}")
            for name, mask in zip(
                "abcdefg",
                ["a_mask.png", "b_gt.bmp", "c_GT.tif", "d-mask.PNG", "e.mask.png", "F_label.jpg", "g.webp"],
                strict=True,
            )
        },
    ),
    *(
        Case(
            f"a folder of masks called {name}",
            ["good/1.png", "bad/2.png", f"{name}/bad/2.png=mask"],
            train="good/1.png",
            normal="good/1.png",
            odd=bad("bad/2.png", "bad", f"{name}/bad/2.png"),
        )
        for name in ("mask", "GT", "labels", "Annotations", "segmentation", "GroundTruth", "defect_masks")
    ),
    Case(
        "masks of each split",
        "train/images/1.png train/masks/1.png=black test/images/1.png test/masks/1.png=mask test/images/2.png "
        "test/masks/2.png=black",
        train="train/images/1.png",
        normal="test/images/2.png",
        odd=bad("test/images/1.png", "defect", "test/masks/1.png"),
        notes=("Images with masks: ",),
    ),
    Case(
        "images of which some have a mask",
        "images/{1,2,3}.png masks/3.png=mask",
        odd=bad("images/3.png", "defect", "masks/3.png"),
        error="1 image (images/3.png) look anomalous, and 2 others have no label",
    ),
]

PLAIN = [
    Case(
        "a plain folder",
        "{1,2,3}.png",
        train="{1,2,3}.png",
        notes=("Plain folder: 3 unlabelled images, of which no name says anything: a fit takes all for normal.",),
    ),
    Case("a plain folder of products", "nut/a/1.png bolt/2.png 3.png", train="nut/a/1.png bolt/2.png 3.png"),
    Case("one image", "1.png 2.png", open="1.png", train="1.png"),
    Case(
        "a manifest without labels",
        "good/{1,2}.png",
        texts={"l.csv": "path\ngood/1.png\ngood/2.png\n"},
        open="l.csv",
        train="good/{1,2}.png",
    ),
    Case("numbered files", "no_{1,2}.png", train="no_{1,2}.png"),
    Case("files called good", "good_{1,2}.png defect-free_3.png", train="good_{1,2}.png defect-free_3.png"),
    Case(
        "a glob over labels",
        "good/1.png bad/2.png",
        open="*/*.png",
        train="good/1.png",
        normal="good/1.png",
        odd=bad("bad/2.png", "bad"),
    ),
    Case("a glob over normal ones", "good/{1,2}.png bad/2.png", open="good/*.png", train="{1,2}.png"),
    Case(
        "brackets in a folder that exists, and a glob",
        ["lot [1]/a[0].png", "lot [1]/b.png", "lot 1/c.png"],
        open="lot [1]/*.png",
        train=["a[0].png", "b.png"],
    ),
    Case(
        "a name in another alphabet's bytes",
        [os.fsdecode(b"\xff\xfe.png"), "1.png"],
        train=[os.fsdecode(b"\xff\xfe.png"), "1.png"],
    ),
    Case("a name that begins like a formula", ["=1+1.png", "@a.png", "-b.png"], train=["=1+1.png", "@a.png", "-b.png"]),
    Case(
        "what the system keeps",
        "good/1.png bad/2.png @eaDir/good/1.png good/@eaDir/1.png __MACOSX/good/1.png good/.thumbs/1.png good/._1.png",
        texts={".DS_Store": "x", "Thumbs.db": "x", "good/.DS_Store": "x"},
        train="good/1.png",
        normal="good/1.png",
        odd=bad("bad/2.png", "bad"),
        notes=("Left aside what the system keeps: @eaDir, __MACOSX, good/@eaDir.",),
    ),
    Case(
        "maps of an earlier run",
        "1.png 2.png maps/1.png.map.tiff maps/1.png.overlay.png maps/2.png.map.tiff",
        train="1.png 2.png maps/2.png.map.tiff",
        notes=("Left aside 2 pictures of maps that `score --maps` wrote.",),
    ),
    Case(
        "a report and a detector in the folder",
        "1.png report/figure.png my.unlike/picture.png",
        texts={
            "report/metrics.json": "{}",
            "report/report.html": "",
            "my.unlike/detector.toml": "",
            "my.unlike/checksums.sha256": "",
        },
        train="1.png",
        notes=("Left aside what was written by this program: my.unlike, report.",),
    ),
    Case(
        "a report beside train and test",
        "nut/train/good/1.png nut/test/bad/2.png",
        texts={"nut/metrics.json": "{}", "nut/report.html": ""},
        train="nut/train/good/1.png",
        odd=bad("nut/test/bad/2.png", "bad"),
    ),
    Case(
        "links",
        "a/1.png a/deep/2.png",
        links={"a/loop": "a", "a/deep/up": ".", "again": "a", "b": "../elsewhere"},
        train="a/1.png a/deep/2.png b/x.png",
        notes=("Left aside links to folders whose images are there already: again, a/loop, a/deep/up.",),
    ),
]

MANIFESTS = [
    Case(
        "backslashes",
        "good/1.png bad/2.png gt/2.png=mask",
        texts={"list.csv": "path,label,mask\ngood\\1.png,0,\nbad\\2.png,1,gt\\2.png\n"},
        open="list.csv",
        train="good/1.png",
        normal="good/1.png",
        odd=bad("bad/2.png", "anomalous", "gt/2.png"),
    ),
    Case(
        "semicolons and a byte order mark",
        "1.png 2.png",
        texts={"list.csv": "\ufeffpath;label\n1.png;ok\n2.png;scratch, deep\n"},
        open="list.csv",
        train="1.png",
        normal="1.png",
        odd=bad("2.png", "scratch, deep"),
    ),
    Case(
        "tabs",
        "1.png 2.png",
        texts={"list.tsv": "label\tpath\npass\t1.png\nNG\t2.png\n"},
        open="list.tsv",
        train="1.png",
        normal="1.png",
        odd=bad("2.png", "NG"),
    ),
    Case(
        "words for normal",
        "{1,2,3,4,5,6}.png",
        texts={
            "list.csv": "path,label\n1.png,pass\n2.png,none\n3.png,Negative\n4.png,OK\n5.png,no defect\n6.png,not ok\n"
        },
        open="list.csv",
        train="{1,2,3,4,5}.png",
        normal="{1,2,3,4,5}.png",
        odd=bad("6.png", "not ok"),
    ),
    Case(
        "splits of a manifest",
        "{1,2,3}.png",
        texts={"list.csv": "path,label,split\n1.png,0,Training\n2.png,0,val\n3.png,1,testing\n"},
        open="list.csv",
        train="1.png",
        odd=bad("3.png", "anomalous"),
    ),
]

DOUBTS = [
    Case("a defect beside other folders", "defect/1.png images/{2,3}.png", odd=bad("defect/1.png", "defect"), error="1 image (defect/1.png) look anomalous, and 2 others have no label"),
    Case("loose images beside a folder of bad ones", "bad/1.png 2.png", odd=bad("bad/1.png", "bad"), error="--good 'good_*'"),
    Case("folders with names of defects", "scratch/1.png dent/2.png", error="names of folders look like labels (dent, scratch)"),
    Case("folders called 0 and 1", "0/1.png 1/2.png", error="names of folders look like labels (0, 1)"),
    Case("classes by number", "label_0/1.png label_1/2.png", error="names of folders look like labels (label_0, label_1)"),
    Case("true and false", "true/1.png false/2.png", error="names of folders look like labels (false, true)"),
    Case("no beside what is no answer", "no/1.png lid/2.png", error="names of folders look like labels (no)"),
    Case("notumor beside what it has no word for", "notumor/1.png glioma/2.png", error="names of folders look like labels (notumor)"),
    Case("files with labels in their names", "good_1.png bad_2.png", error="names of 1 file look like labels (bad_2.png)"),
    Case("folders to train on, none called normal", "train/{lot1,lot2}/1.png test/good/2.png", normal="test/good/2.png", error="the training folder has the subfolders lot1, lot2, none of them called normal"),
    Case("each image twice, as with a mask", "a/1.jpg a/1.png b/2.jpg b/2.png", error="2 names are there twice with different endings (1, 2), as image and mask are"),
    Case("each image and its mask", "a/1.jpg a/1.png=mask b/2.jpg b/2.png=black", train="b/2.jpg", normal="b/2.jpg", odd=bad("a/1.jpg", "defect", "a/1.png"), notes=("Images with masks: 1 normal and 1 anomalous images",)),
    Case("labels in a table beside", "1.png 2.png", texts={"train.csv": "id,label\n1,0\n2,1\n"}, error="train.csv has a column label, which the folder alone does not use"),
    Case("masks and nothing else", "masks/{1,2}.png=mask", error="names of folders look like labels (masks)"),
]  # fmt: skip

DOUBTS += [
    Case(
        "a manifest without labels, of paths that say some",
        "good/1.png bad/2.png",
        texts={"l.csv": "path\ngood/1.png\nbad/2.png\n"},
        open="l.csv",
        error="has no labels, but 1 path (bad/2.png) may say some",
    ),
]

CHOSEN = [
    Case("good files of a doubtful folder", "defect/1.png images/{2,3}.png", good="images/*", train="images/{2,3}.png", normal="images/{2,3}.png", notes=("2 images of 3 called good; the others left aside.",)),
    Case("several patterns", "a/1.png b/x/2.png c/3.png", good=["a/*.png", "b"], train="a/1.png b/x/2.png", normal="a/1.png b/x/2.png"),
    Case("good files by their names", "good_1.png bad_2.png", good="good_*", train="good_1.png", normal="good_1.png"),
    Case("good files of a glob", "a/1.png b/2.png", open="*/*.png", good="a/**", train="a/1.png", normal="a/1.png"),
    Case("good files of a manifest", "a/1.png b/2.png", texts={"l.csv": "path\na/1.png\nb/2.png\n"}, open="l.csv", good="b/*", train="b/2.png", normal="b/2.png"),
    Case("good files where the layout says otherwise", "good/1.png bad/2.png masks/2.png=mask", good="**/2.png", train="bad/2.png", normal="bad/2.png", notes=("Of these, 1 image in folders with names of defects: bad/2.png.",)),
]  # fmt: skip

CASES = FIELD + NAMES + SPLITS + MASKS + PLAIN + MANIFESTS + DOUBTS + CHOSEN


@pytest.fixture
def root(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    cv2.imwrite(str(tmp_path / "elsewhere/x.png"), GREY)
    (tmp_path / "given").mkdir()
    return tmp_path / "given"


def make(case, root):
    for entry in expand(case.files):
        name, _, content = entry.partition("=") if entry.endswith(("=mask", "=black")) else (entry, "", "")
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(path.suffix.lower(), CONTENTS[content])[1].tobytes())
    for name, text in case.texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    for name, target in case.links.items():
        (root / name).symlink_to((root / target).resolve())
    return root / case.open if case.open else root


def mask_name(mask, opened):
    return "" if mask is None else Path(os.path.relpath(mask, opened if opened.is_dir() else opened.parent)).as_posix()


def test_there_are_enough_of_them():
    assert len(CASES) == len({case.name for case in CASES}) >= 100


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_understood(case, root):
    opened = make(case, root)
    source = open_source(opened, good=case.good)
    base = root if case.open.startswith("split_csv") else opened
    if case.error:
        with pytest.raises(DataError) as caught:
            training(source)
        assert case.error in str(caught.value)
        assert NOT_CERTAIN in str(caught.value) or "is normal and outside a test split" in str(caught.value)
    else:
        chosen = training(source)
        assert sorted(sample.id for sample in chosen.samples) == sorted(expand(case.train))
        assert not any(sample.anomalous for sample in chosen.samples)
        for note in case.notes:
            assert note in "\n".join(chosen.notes)
    if case.normal or case.odd:
        found = labelled(source)
        odd = {s.id: (s.kind, mask_name(s.mask, base)) for s in found.samples if s.anomalous}
        assert odd == case.odd
        assert sorted(s.id for s in found.samples if not s.anomalous) == sorted(expand(case.normal))
        for note in case.told:
            assert note in "\n".join(found.notes)
    elif not case.error:
        with pytest.raises(DataError, match="has a label"):
            labelled(source)


def test_good_files_that_are_not_there(root):
    make(Case("", "a/1.png b/2.png"), root)
    with pytest.raises(
        DataError, match=r"given: none of 2 images is chosen as good; a pattern is matched with paths such as a/1"
    ):
        open_source(root, good="ok/*")
    (root / "l.csv").write_text("path\na/1.png\n")
    with pytest.raises(DataError, match=r"l.csv: none of 1 image is chosen as good, such as a/1.png"):
        open_source(root / "l.csv", good="ok/*")


def test_good_rows_of_an_array_cannot_be_chosen_by_their_paths():
    with pytest.raises(DataError, match="the array: good files can be chosen of a folder, a glob or a manifest only"):
        open_source(np.zeros((3, 8, 8), np.uint8), good="*")


def test_notes_stay_with_a_part_of_a_source(root):
    make(Case("", "good/{1,2}.png bad/3.png"), root)
    source = open_source(root)
    assert source.notes[0].startswith("Folders for normal and anomalous images")
    assert source.take(np.array([0])).notes == source.where(lambda sample: sample.anomalous).notes == source.notes
    assert training(training(source)).notes == training(source).notes
    assert open_source(np.zeros((3, 8, 8), np.uint8)).notes == ()
    joined = open_source([root / "good", root / "bad"])
    assert joined.notes == (
        f"{root}/good: Plain folder: 2 unlabelled images, of which no name says anything: a fit takes all for normal.",
        f"{root}/bad: Plain folder: 1 unlabelled image, of which no name says anything: a fit takes all for normal.",
    )


def test_a_doubt_holds_for_a_fit_alone(root):
    make(Case("", "defect/1.png images/2.png"), root)
    source = open_source(root)
    assert len(source) == 2
    with pytest.raises(DataError, match="Say it with --good GLOB"):
        training(source.take(np.array([1])))
    with pytest.raises(DataError, match="look anomalous"):
        training(open_source([root, root / "images"]))


SPOT = np.zeros((6, 6), bool)
SPOT[2:4, 2:5] = True
COLOURS = np.where(SPOT[..., None], [10, 200, 40], [120, 30, 90]).astype(np.uint8)
OVER_HALF = np.ones((6, 6), bool)
OVER_HALF[0] = False


def palette(mask):
    image = PIL.Image.fromarray(mask.astype(np.uint8), "P")
    image.putpalette([60, 60, 200, 250, 120, 10])
    return image


@pytest.mark.parametrize(
    ("name", "image", "expected"),
    [
        ("0 and 1.png", SPOT.astype(np.uint8), SPOT),
        ("0 and 255.bmp", SPOT.astype(np.uint8) * 255, SPOT),
        ("16 bits.png", SPOT.astype(np.uint16) * 3, SPOT),
        ("kinds by value.png", SPOT * np.arange(1, 7, dtype=np.uint8), SPOT),
        ("most of it.png", OVER_HALF.astype(np.uint8), OVER_HALF),
        ("black background.png", COLOURS * SPOT[..., None].astype(np.uint8), SPOT),
        ("coloured background.png", COLOURS, SPOT),
        ("palette.png", palette(SPOT), SPOT),
        ("transparent.png", np.dstack([np.full((6, 6, 3), 255, np.uint8), SPOT.astype(np.uint8) * 255]), SPOT),
        ("all of it.png", np.full((6, 6), 255, np.uint8), np.ones((6, 6), bool)),
        ("none of it.png", BLACK, np.zeros((6, 6), bool)),
    ],
)
def test_what_a_mask_marks(tmp_path, name, image, expected):
    (image if isinstance(image, PIL.Image.Image) else PIL.Image.fromarray(image)).save(tmp_path / name)
    np.testing.assert_array_equal(decode_mask(tmp_path / name), expected)


def test_noise_of_a_lossy_mask_is_no_defect(tmp_path):
    square = np.zeros((48, 48), np.uint8)
    square[13:29, 13:29] = 255
    PIL.Image.fromarray(square).save(tmp_path / "m.jpg", quality=30)
    assert (cv2.imread(str(tmp_path / "m.jpg"), cv2.IMREAD_UNCHANGED) > 0).sum() > 300
    np.testing.assert_array_equal(decode_mask(tmp_path / "m.jpg"), square > 0)


def test_a_folder_of_masks_is_all_of_them(tmp_path):
    for number, place in enumerate((1, 4)):
        mask = np.zeros((6, 6), np.uint8)
        mask[place] = 9
        cv2.imwrite(str(tmp_path / f"{number}.png"), mask)
    assert np.flatnonzero(decode_mask(tmp_path).any(axis=1)).tolist() == [1, 4]
    cv2.imwrite(str(tmp_path / "2.png"), np.zeros((5, 7), np.uint8))
    with pytest.raises(ImageError, match=r"^masks .* are to be of one size, came 6 x 6, 7 x 5$"):
        decode_mask(tmp_path)


def test_what_was_understood_is_said_on_the_command_line(root, tmp_path, capsys):
    random = np.random.default_rng(0)
    for name in [f"parts/{number:02}.png" for number in range(30)] + ["scratch/1.png", "scratch/2.png"]:
        (root / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(root / name), random.integers(90, 120, (16, 16), np.uint8))
    fit = ["fit", str(root), "-o", str(tmp_path / "d"), "--model", "conv", "--epochs", "1", "--size", "16"]
    fit += ["--false-alarms", "0.2", "--device", "cpu", "--no-cache"]
    assert run(fit) == 2
    assert "names of folders look like labels (scratch)" in capsys.readouterr().err
    assert run(["inspect", str(root), "--good", "parts", "--no-features", "--no-cache"]) == 0
    assert "fit would take 30 of 30 images: those labelled normal." in capsys.readouterr().out
    assert run([*fit, "--good", "parts"]) == 0
    assert "30 images of 32 called good; the others left aside." in capsys.readouterr().err
    fitted = Detector("conv", epochs=1, size=16, false_alarms=0.2, device="cpu", cache=False).fit(
        root, good="parts/*.png"
    )
    assert sum(fitted.fitted_.counts[part] for part in ("train", "validation", "calibration")) == 30
    (root / "parts").rename(root / "good")
    assert run(["evaluate", str(tmp_path / "d"), str(root), "-o", str(tmp_path / "out")]) == 0
    assert "Folders for normal and anomalous images: 30 normal and 2 anomalous images; " in capsys.readouterr().err


def test_names_in_csv_are_no_formulas_and_are_not_lost():
    names = ["=1+1.png", "+a", "-b", "@c", "'d", "e", "f=1", ""]
    written = cells({name: name for name in names})
    assert written == ["'=1+1.png", "'+a", "'-b", "'@c", "'" + "'d", "e", "f=1", ""]
    assert [text.removeprefix("'") for text in written] == names


COUNTS = {  # images to fit on, normal and anomalous ones to evaluate on, masks
    "cookies": (31, 14, 32, 32),
    "magnetic_tile": (400, 200, 392, 392),
    "pavement": (576, 279, 248, 248),
    "mtoc": (33, 15, 77, 77),
    "headct": (68, 30, 100, 0),
    "pneumonia28": (388, 234, 390, 0),
    "mvtec_ad_256/transistor": (213, 60, 40, 40),
}


@pytest.mark.parametrize("name", COUNTS)
def test_real_sets_are_what_they_are_said_to_be(name):
    if not (DATA / name).is_dir():
        pytest.skip(f"no {name} in {DATA}: set UNLIKE_DATA")
    source = open_source(DATA / name)
    found = labelled(source).samples
    odd = [sample for sample in found if sample.anomalous]
    masks = sum(sample.mask is not None for sample in odd)
    assert (len(training(source)), len(found) - len(odd), len(odd), masks) == COUNTS[name]


def test_several_masks_of_one_image_by_number_are_one(root):
    for number in range(4):
        image = np.full((6, 6), 100 + number, np.uint8)
        (root / "good").mkdir(parents=True, exist_ok=True)
        (root / "bad[1]").mkdir(exist_ok=True)
        cv2.imwrite(str(root / f"good/{number}.png"), image)
    cv2.imwrite(str(root / "bad[1]/x.png"), np.full((6, 6), 50, np.uint8))
    for number, place in enumerate((1, 4), start=1):
        mask = np.zeros((6, 6), np.uint8)
        mask[place] = 255
        cv2.imwrite(str(root / f"bad[1]/x_mask_{number}.png"), mask)
    source = open_source(root)
    assert not any("fit no image" in note for note in source.notes)
    (odd,) = [sample for sample in source.samples if sample.anomalous]
    assert odd.id == "bad[1]/x.png"
    assert np.flatnonzero(decode_mask(odd.mask).any(axis=1)).tolist() == [1, 4]


def pairs(root, last=None):
    """Two folders of a.jpg and a.png, as the magnetic tiles came first."""
    for name in ("MT_Free/Imgs", "MT_Other/Imgs"):
        (root / name).mkdir(parents=True)
        for number in range(3):
            mask = np.zeros((8, 8), np.uint8)
            mask[2, 2:5] = 255 * (name != "MT_Free/Imgs")
            stem = f"{root / name}/exp1_{number}"
            cv2.imwrite(f"{stem}.jpg", np.full((8, 8), 90 + number, np.uint8))
            cv2.imwrite(f"{stem}.png", mask if last is None or number < 2 else last)


def test_pairs_of_image_and_mask_in_one_folder(root):
    pairs(root)
    source = open_source(root)
    assert len(source) == 6
    assert {sample.id.split("/")[0]: sample.anomalous for sample in source.samples} == {
        "MT_Free": False,
        "MT_Other": True,
    }
    assert source.notes[0].startswith("Images with masks: 3 normal and 3 anomalous images")
    assert all(sample.mask is not None for sample in source.samples if sample.anomalous)


@pytest.mark.parametrize("last", [np.arange(64, dtype=np.uint8).reshape(8, 8), np.zeros((5, 8), np.uint8)])
def test_pairs_that_are_no_images_and_masks_are_in_doubt(root, last):
    pairs(root, last)
    with pytest.raises(DataError, match="are there twice with different endings"):
        training(open_source(root))
