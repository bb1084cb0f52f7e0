"""Times that file names tell, as archives of weather services write them."""

import numpy as np
import pytest
from emuloss.datasets.sources.file_times import reader_of, times_in
from emuloss.errors import ArgumentError


@pytest.mark.parametrize(
    ("name", "time"),
    [
        ("201609281445_fmi.radar.composite.lowest_FIN_SUOMI1.pgm.gz", "2016-09-28T14:45:00"),
        ("AQC161932045V_00005.801.gif", "2016-07-11T20:45:00"),
        ("PrecipRate_00.00_20190610-001230.grib2", "2019-06-10T00:12:30"),
        ("T_PAAH21_C_EUOC_20180824184500.hdf", "2018-08-24T18:45:00"),
        ("2_20200810_054600.prcp-cscn.nc", "2020-08-10T05:46:00"),
        ("raa01-rw_10000-1605280050-dwd---bin", "2016-05-28T00:50:00"),
        ("S_NWC_CRR_MSG4_Europe-VISIR_20200801T121500Z.nc", "2020-08-01T12:15:00"),
        ("3B-HHR.MS.MRG.3IMERG.20190610-S003000-E005959.0030.V06B.HDF5", "2019-06-10T00:30:00"),
        ("RAD_NL25_RAP_5min_202002292355.h5", "2020-02-29T23:55:00"),
        ("radar_2019-06-10T00:05:00.nc", "2019-06-10T00:05:00"),
        ("model_2019061012.nc", "2019-06-10T12:00:00"),
        ("goes_s20191610015.nc", "2019-06-10T00:15:00"),
        ("era5_19690720.nc", "1969-07-20T00:00:00"),
        ("epoch_197001010000.nc", "1970-01-01T00:00:00"),
        ("before_209913010000_201901010600.h5", "2019-01-01T06:00:00"),
        ("README.txt", None),
        ("run_2019.nc", None),
        ("radar_201902300000.h5", None),
        ("part_000000001234.h5", None),
        ("station_120105281530.h5", None),
    ],
)
def test_times_in_names(name, time):
    assert times_in([name]) == [None if time is None else np.datetime64(time)]


def test_one_format_for_all_names():
    """10 digits may be a year in four digits and an hour, or a year in two, an hour and a minute."""
    assert [str(time) for time in times_in(["a2005051510", "a2005051550", "README"])] == [
        "2020-05-05T15:10:00",
        "2020-05-05T15:50:00",
        "None",
    ]


def test_days_tell_no_order_within_them():
    assert times_in(["a20190610_1", "a20190610_2"]) == [None, None]
    assert None not in times_in(["a20190610_1", "a20190611_2"])


def test_formats_that_are_given():
    assert reader_of("AQC%y%j%H%M?_")("AQC161932045V_00005.gif") == np.datetime64("2016-07-11T20:45:00")
    assert reader_of("%Y%m%d%H%M")("no time") is None
    twice = reader_of("%Y/%m/%Y%m%d.nc")
    assert twice("2019/06/20190610.nc") == np.datetime64("2019-06-10T00:00:00")
    assert reader_of("%d.%m.%Y %H", whole=True)("10.06.2019 12 and more") is None
    assert reader_of("(%d.%m.%Y")("(10.06.2019") == np.datetime64("2019-06-10T00:00:00")


@pytest.mark.parametrize("pattern", ["%H%M", "%Y", "%Y%m%H", "%Y%b%d", "%Y%m%d%"])
def test_formats_that_tell_no_day_are_refused(pattern):
    with pytest.raises(ArgumentError, match="time_format"):
        reader_of(pattern)
