"""Looking at fields before they are labelled: figures against NumPy, times, what cannot be read, pictures."""

import emuloss
import numpy as np
import pytest
from emuloss import DataError
from emuloss.datasets import FieldSource
from emuloss.evaluation.axes import _UNMEASURED
from emuloss.pipeline import looking
from emuloss.pipeline.looked import Times, duration, percent
from matplotlib import colormaps
from matplotlib.colors import to_rgb
from PIL import Image

LEVELS = [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99]


class Hourly(FieldSource):
    """A field an hour, in any unit; some cannot be read."""

    name, unit, pixel_size, length_unit = "hourly", "mm/h", 2.0, "km"
    chronological, quantum, dry, field_shape = True, None, 0.0, (16, 24)

    def __init__(self, count=24, damaged=(), hours=None, empty=()):
        self.count, self.damaged, self.empty, self.reads = count, damaged, empty, []
        hours = np.arange(count) if hours is None else np.asarray(hours)
        self.times = [np.datetime64("2024-07-01T18:00", "s") + np.timedelta64(int(h), "h") for h in hours]
        self.skipped = {"odd.h5": "it holds DBZH, most of the others RATE"}

    def __len__(self):
        return self.count

    def read(self, k, role):
        self.reads.append((k, role))
        if k in self.damaged:
            raise DataError(f"file{k}.h5: truncated; remove it.")
        rng = np.random.default_rng(k)
        fields = np.maximum(rng.normal(0, 2, (3, *self.field_shape)), 0).astype(np.float32)
        fields[rng.random(fields.shape) < 0.1] = np.nan
        return fields[:0] if k in self.empty else fields

    def config(self):
        return {"name": self.name}


def everything(source, chunks):
    return np.concatenate([source.read(k, "test") for k in chunks])


def test_figures_are_those_of_numpy():
    source = Hourly()
    found = emuloss.look(fields=source, chunks=5)
    assert found.read == (0, 6, 12, 17, 23)  # the first and the last among them
    assert source.reads == [(k, "test") for k in found.read]  # each once, none as if it were trained on
    fields = everything(source, found.read)
    known = fields[~np.isnan(fields)]
    assert (found.chunks, found.fields, found.shape) == (24, 15, (16, 24))
    assert found.missing == pytest.approx(np.isnan(fields).mean())
    assert found.above == pytest.approx((known > 0).mean())
    assert (found.least, found.greatest) == (known.min(), known.max())
    assert list(found.quantiles) == LEVELS
    assert list(found.quantiles.values()) == pytest.approx(np.quantile(known[known > 0], LEVELS))
    assert found.splits == {"train": 16, "validation": 2, "test": 4, "unused": 2}
    assert found.tested_from == source.times[20]
    assert emuloss.look(fields=source, gap="6h", test_chunks=2, chunks=1).splits["unused"] == 5


def test_a_table_says_all_of_it():
    text = str(emuloss.look(fields=Hourly(), chunks=6))
    for row in (
        "chunks     24, 6 of them read",
        "fields     18 in these, about 72 in all, 16 x 24 pixels of 2 km",
        "times      2024-07-01 18:00 to 2024-07-02 17:00 UTC, every 1 h, no gap",
        "unit       mm/h",
        "steps      none, continuous",
        "splits     chunks: 16 train, 2 validation, 4 test, 2 unused; test from 2024-07-02 14:00 UTC",
        "left out   1 file, first odd.h5: it holds DBZH, most of the others RATE",
    ):
        assert row in text.splitlines()
    assert "unreadable" not in text


def test_chunks_that_cannot_be_read_are_told():
    found = emuloss.look(fields=Hourly(damaged=(12, 23)), chunks=5)
    assert found.unreadable == {
        12: "file12.h5: truncated; remove it.",
        23: "file23.h5: truncated; remove it.",
    }
    assert found.fields == 9
    assert "unreadable  2 of these chunks, first 12: file12.h5: truncated; remove it." in str(found)
    with pytest.raises(DataError, match=r"^file0\.h5: truncated; remove it\.$"):
        emuloss.look(fields=Hourly(damaged=range(24)))


def test_chunks_without_a_usable_field():
    found = emuloss.look(fields=Hourly(empty=range(24)), chunks=4)
    assert (found.fields, found.missing, found.above, found.least) == (0, None, None, None)
    assert "range" not in str(found)
    assert "too much in every field; give a lower `min_coverage` or" in str(found)
    with pytest.raises(DataError, match="no field to draw"):
        emuloss.look(fields=Hourly(empty=range(24)), picture="never.png")


def test_quantiles_of_a_bounded_sample(monkeypatch):
    source = Hourly()
    exact = emuloss.look(fields=source, chunks=24)
    monkeypatch.setattr(looking, "_SAMPLED", 2000)
    seen = looking._Seen(source)
    for k in range(24):
        seen.take(k, 0)
        assert seen._sample.size <= 2000
    rough = emuloss.look(fields=source, chunks=24)
    assert rough.missing == exact.missing
    assert rough.greatest == exact.greatest
    assert rough.above == pytest.approx(exact.above, abs=0.05)
    assert list(rough.quantiles.values()) == pytest.approx(list(exact.quantiles.values()), rel=0.2, abs=0.05)


def test_times_with_gaps():
    hours = [0, 1, 2, 5, 6, 7, 7, 30]
    times = Times.of(Hourly(8, hours=hours).times[::-1])  # in any order
    start = np.datetime64("2024-07-01T18:00")
    assert (times.first, times.last) == (start, start + np.timedelta64(30, "h"))
    assert times.step == np.timedelta64(1, "h")
    assert times.repeated == 1
    assert times.gaps == tuple(
        (start + np.timedelta64(a, "h"), start + np.timedelta64(b, "h")) for a, b in ((2, 5), (7, 30))
    )
    assert str(times) == (
        "2024-07-01 18:00 to 2024-07-03 00:00 UTC, every 1 h, 1 time repeated, "
        "2 gaps: 2024-07-01 20:00 to 23:00, 2024-07-02 01:00 to 2024-07-03 00:00"
    )
    assert Times.of(None) is None
    assert Times.of([np.datetime64("NaT", "s")]) is None
    assert str(Times.of([start])) == "2024-07-01 18:00 UTC"


def test_durations_and_shares_in_words():
    spans = {"15 min": (15, "m"), "90 s": (90, "s"), "6 h": (6, "h"), "day": (24, "h"), "2 days": (2, "D")}
    assert all(duration(np.timedelta64(*span)) == text for text, span in spans.items())
    assert [percent(share) for share in (0, 1e-6, 0.1234, 1 - 1e-6, 1)] == [
        "0 %", "< 0.01 %", "12.3 %", "> 99.99 %", "100 %",
    ]  # fmt: skip


def test_what_has_no_dry_value():
    kelvin = (280 + 5 * np.random.default_rng(0).standard_normal((40, 8, 8))).astype(np.float32)
    found = emuloss.look(fields=kelvin, unit="K", chunks=99)
    assert (found.dry, found.above) == (None, None)
    assert found.quantiles[0.5] == pytest.approx(np.median(kelvin))
    assert (found.read, found.fields) == (tuple(range(found.chunks)), 40)
    assert "above" not in str(found)


RAIN = np.maximum(np.random.default_rng(1).normal(0, 3, (24, 16, 16)), 0)


@pytest.mark.parametrize(
    ("fields", "marker"),
    [
        (np.where(RAIN > 5, -3, RAIN), -3),  # of MRMS
        (np.where(RAIN > 5, 9999, RAIN), 9999),
        (np.where(RAIN > 5, -999, 280 + RAIN), -999),
        (RAIN, None),
        (280 + RAIN, None),
        (RAIN > 1, None),  # a mask
        (np.where(RAIN > 0, 10 + RAIN, -32), None),  # reflectivity, of which -32 is the dry value
        (RAIN - 1, None),
        (np.where(RAIN.max() == RAIN, 1e5, RAIN), None),  # a value of one pixel
    ],
)
def test_markers_that_nobody_named(fields, marker):
    found = emuloss.look(fields=fields)
    assert found.marker == marker
    assert (f"marker?    {marker} may stand for nothing measured" in str(found)) == (marker is not None)
    if marker is not None:
        named = emuloss.look(fields=fields, source_options={"nodata": marker})
        assert (named.marker, named.missing) == (None, pytest.approx((fields == marker).mean()))


def test_too_few_chunks_are_told_before_anything_is_labelled():
    found = emuloss.look(fields=np.random.default_rng(0).random((2, 8, 8)))
    assert found.splits == {}
    assert "splits     none: source 'memory' has 2 chunks, too few for" in str(found)
    assert "unit       not told; give `unit`" in str(found)


def test_pictures(tmp_path):
    emuloss.look(fields=Hourly(), picture=tmp_path / "some.png")
    picture = np.asarray(Image.open(tmp_path / "some.png").convert("RGB")).reshape(-1, 3) / 255
    grey = np.abs(picture - to_rgb(_UNMEASURED)).max(1) < 0.01
    assert 0.02 < grey.mean() < 0.2  # a tenth of the pixels of the fields
    source = Hourly()
    source.read = lambda k, role: np.nan_to_num(Hourly.read(source, k, role))
    emuloss.look(fields=source, picture=tmp_path / "all.png")
    picture = np.asarray(Image.open(tmp_path / "all.png").convert("RGB")).reshape(-1, 3) / 255
    assert not (np.abs(picture - to_rgb(_UNMEASURED)).max(1) < 0.01).any()


def test_a_mask_is_told_from_its_ground(tmp_path):
    mask = np.random.default_rng(0).random((24, 16, 16)) > 0.7
    emuloss.look(fields=mask, picture=tmp_path / "mask.png")
    picture = np.asarray(Image.open(tmp_path / "mask.png").convert("RGB")).reshape(-1, 3) / 255
    darkest = np.abs(picture - colormaps["YlGnBu"](1.0)[:3]).max(1) < 0.02
    assert 0.1 < darkest.mean() < 0.4


def test_chunks_without_a_value_are_not_drawn(tmp_path, monkeypatch):
    shown = {}
    monkeypatch.setattr("emuloss.evaluation.samples.draw_samples", lambda *_, **given: shown.update(given))
    fields = np.full((24, 8, 8), np.nan)
    fields[2:4] = 1.5
    emuloss.look(fields=fields, picture=tmp_path / "some.png")
    assert shown["titles"] == ("chunk 1, field 0",)


def test_pictures_show_fields_of_all_chunks(tmp_path, monkeypatch):
    shown = {}
    monkeypatch.setattr("emuloss.evaluation.samples.draw_samples", lambda *_, **given: shown.update(given))
    for count, last in ((24, "2024-07-02 17:00"), (200, "2024-07-10 01:00")):
        source = Hourly(count)
        emuloss.look(fields=source, chunks=count, picture=tmp_path / "some.png")
        assert len(shown["titles"]) == 8
        assert shown["titles"][0].startswith("2024-07-01 18:00, field ")
        assert shown["titles"][-1].startswith(f"{last}, field ")
        times = np.array([title[:16].replace(" ", "T") for title in shown["titles"]], "datetime64[m]")
        apart = np.diff(times) / np.diff(times).mean()
        assert apart.min() > 0.6  # spread over all of them
        assert apart.max() < 1.4


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"chunks": 0}, "^chunks must be"),
        ({"picture": "fields.jpg"}, r"^picture \(='fields.jpg'\) must end in .png"),
        ({"colour": 1}, "^there is no option 'colour'"),
    ],
)
def test_mistakes(given, match):
    with pytest.raises(emuloss.ArgumentError, match=match):
        emuloss.look(fields="rain", **given)
